from .api import Explanation as Explanation
from .api import explain as explain
from .classifiers.linear import LinearClassifier as LinearClassifier
from .errors import InputError as InputError
from .samplers.conditional import Conditional as Conditional
from .samplers.gaussian import PatchGaussian as PatchGaussian
from .samplers.grey import Grey as Grey
from .samplers.marginal import Marginal as Marginal
