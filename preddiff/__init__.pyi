from .api import Explanation as Explanation
from .api import explain as explain
from .classifiers.linear import LinearClassifier as LinearClassifier
from .errors import InputError as InputError
from .gaussian import PatchGaussian as PatchGaussian
from .samplers import Conditional as Conditional
from .samplers import Grey as Grey
from .samplers import Marginal as Marginal
