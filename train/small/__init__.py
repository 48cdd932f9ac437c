"""The small model of real video: frozen DINOv2 features on disk, and a decoder trained on search windows."""
