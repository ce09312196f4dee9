"""Prediction difference analysis of classifiers of images and volumes."""

import lazy_loader

# Names are imported when first used, so that stages which need no torch start without it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
