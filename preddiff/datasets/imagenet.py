"""The 1,000 classes of ImageNet (ILSVRC 2012), by number, as torchvision's networks have them."""


def imagenet_classes() -> tuple[str, ...]:
    """Names of the classes, in the order of the networks' outputs.

    Two names, "crane" and "maillot", occur twice.
    """
    # Importing torchvision takes seconds. The names are the same for all of its weights.
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])
