"""How the small model of this repository starts: built from nothing, its tower pretrained on drawn shapes."""
