"""Images, records, crops and augmentation."""
