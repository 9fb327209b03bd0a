"""ImageNet classification: pictures to classes, with the networks named "*_imagenet"."""
