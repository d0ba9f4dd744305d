"""Parsers that decoders share: TIFF, ISO boxes, JPEG, EXIF, maker notes, picture files."""
