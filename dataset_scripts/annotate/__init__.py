"""Whole tracks for annotation tools: a backend of Label Studio and a serverless function of CVAT."""
