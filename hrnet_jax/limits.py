"""How much of somebody else's file is read: every limit, in one place (docs/security.md has why).

A file beyond one of them is refused in one line that names it, before its content is worked on.
"""

# Pictures
PICTURE_BYTES = 1 << 30  # of an image file
PICTURE_PIXELS = 100_000_000  # decoded, 1.2 GB at worst and some seconds
PICTURE_SCANS = 2_000_000_000  # pixels times scans of a progressive JPEG; photographs have ten
