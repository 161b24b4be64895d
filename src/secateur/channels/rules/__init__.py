"""What every operator of torch does with channels; importing this package registers the rules."""

import secateur.channels.rules.elementwise
import secateur.channels.rules.layers
import secateur.channels.rules.moves
import secateur.channels.rules.space  # noqa: F401
