"""Rewards of molecules written as SMILES (Weininger 1988), by RDKit: pip install 'gptgan_jax[molecules]'."""

from collections.abc import Sequence
from typing import Any

from gptgan_jax.errors import UserError

NOT_INSTALLED = (
    "rewards valid_molecule and drug_likeness need RDKit, which is not installed: pip install 'gptgan_jax[molecules]'"
)


def valid_molecule(texts: Sequence[str], joined: bool = False) -> list[float]:
    """1 if a text is the SMILES of a molecule with at least one atom that RDKit parses and sanitises, otherwise 0.

    Args:
        texts: N texts. A text with white space is not a molecule, unless `joined`.
        joined: first remove the spaces that a word tokenizer puts between symbols.
    """
    return [float(_molecule(text, joined) is not None) for text in texts]


def drug_likeness(texts: Sequence[str], invalid: float = 0.0, joined: bool = False) -> list[float]:
    """QED, the quantitative estimate of drug-likeness in [0, 1] (Bickerton et al. 2012, Nature Chemistry 4, 90).

    Args:
        texts: N texts.
        invalid: value for a text that is not a molecule.
        joined: see `valid_molecule`.
    """
    _rdkit()
    from rdkit.Chem import QED

    molecules = [_molecule(text, joined) for text in texts]
    return [invalid if molecule is None else float(QED.qed(molecule)) for molecule in molecules]


def _molecule(text: str, joined: bool) -> Any:
    """The molecule of a text, sanitised; None if it is not a molecule or has no atoms."""
    chem = _rdkit()
    text = text.replace(" ", "") if joined else text
    # RDKit reads anything after white space as a name, and a NUL as the end.
    if not text or any(char.isspace() or char == "\0" for char in text):
        return None
    molecule = chem.MolFromSmiles(text)
    return None if molecule is None or not molecule.GetNumAtoms() else molecule


def _rdkit() -> Any:
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise UserError(NOT_INSTALLED) from None
    rdBase.DisableLog("rdApp.*")  # a line on standard error for every text that is not a molecule
    return Chem
