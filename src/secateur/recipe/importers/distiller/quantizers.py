"""Distiller's quantizer sections. Quantization comes later: a schedule that asks for it is refused with a sentence."""

from secateur.recipe.importers.distiller.policies import Policy
from secateur.recipe.importers.reading import Reading

LATER = "quantization is not part of this version of Secateur; it comes later"


def check_quantizers(reading: Reading, policies: tuple[Policy, ...]) -> None:
    """raises    RecipeError  a quantizer that a policy uses, or a file that does nothing but quantize

    A section that no policy uses means nothing to Distiller's scheduler; it gets a note.
    """
    section = reading.document.value.get("quantizers")
    used = next((policy for policy in policies if policy.kind == "quantizer"), None)
    if used is not None:
        reading.fail(used.at, f"{LATER}. Take the policy of '{used.instance}' out to run the rest of the schedule.")
    if section and not policies:
        reading.fail(("quantizers",), f"{LATER}.")
    if section:
        reading.note(("quantizers",), f"'quantizers' is not imported: {LATER}.")
