"""Properties that hold of the hardware, and are found broken where it was broken."""

import pytest

from formal.catalogue import PROOFS, faulty, prove
from formal.solve import missing

pytestmark = pytest.mark.skipif(
    bool(missing()), reason=f"not installed (extra 'formal'): {', '.join(missing())}")

QUICK = [proof for proof in PROOFS if proof.quick != 0]
FAULTS = [(proof, fault) for proof in PROOFS for fault in proof.faults]


@pytest.mark.parametrize(
    "proof", QUICK, ids=[f"{proof.module}-{proof.name}" for proof in QUICK])
def test_property_holds(proof, tmp_path):
    outcome = prove(proof, tmp_path, depth=proof.quick or proof.depth)
    assert outcome.status in ("proved", "holds"), (
        f"{outcome.rule} in step {outcome.step}: {outcome.trace}\n{outcome.log[-2000:]}")


@pytest.mark.parametrize(
    "proof, fault", FAULTS,
    ids=[f"{proof.module}-{fault.rule}-{at}" for at, (proof, fault) in enumerate(FAULTS)])
def test_broken_design_is_found(proof, fault, tmp_path):
    outcome = faulty(proof, fault, tmp_path)
    assert (outcome.status, outcome.rule) == ("fails", fault.rule), outcome.log[-2000:]
