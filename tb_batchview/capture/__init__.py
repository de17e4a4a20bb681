"""How the tensors of a training step are taken out of Keras.

The only part that knows how Keras hands tensors over. `callback` calls
`install` and is given an `Observation` for each step; `keras_names` lists
every private name of Keras that is used.
"""

from tb_batchview.capture.carried import name_place as name_place
from tb_batchview.capture.carried import take_attached as take_attached
from tb_batchview.capture.gather import has_loss as has_loss
from tb_batchview.capture.gather import output_units as output_units
from tb_batchview.capture.inputs import NOTHING_SHOWN as NOTHING_SHOWN
from tb_batchview.capture.inputs import find_shown as find_shown
from tb_batchview.capture.install import BACKENDS as BACKENDS
from tb_batchview.capture.install import build_without_ids as build_without_ids
from tb_batchview.capture.install import find_worker as find_worker
from tb_batchview.capture.install import install as install
from tb_batchview.capture.layers import describe_model as describe_model
from tb_batchview.capture.layers import select_layers as select_layers
from tb_batchview.capture.observation import Observation as Observation
from tb_batchview.capture.observation import Observed as Observed
from tb_batchview.capture.predict_step import PredictStep as PredictStep
from tb_batchview.capture.predicted import observe_predictions as observe_predictions
from tb_batchview.capture.restore import left_as_found as left_as_found
from tb_batchview.capture.step import TappedStep as TappedStep
from tb_batchview.capture.step import read_predictions as read_predictions
