"""Inpainter: the U-Net, its diffusion, samplers and sliding windows."""
