"""What every operator of ONNX does with channels; importing this package registers the rules."""

import secateur.channels.onnx_rules.elementwise
import secateur.channels.onnx_rules.layers
import secateur.channels.onnx_rules.moves
import secateur.channels.onnx_rules.space  # noqa: F401
