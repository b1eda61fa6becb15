"""Metrics of drawn images: FID, KID, CLIPScore of folders, each with the name of what it follows."""
