"""Rewards of molecules written as SMILES (Weininger 1988), by RDKit: pip install 'gptgan_jax[molecules]'."""

from collections.abc import Sequence
from typing import Any

from gptgan_jax.errors import UserError

NOT_INSTALLED = (
    "rewards valid_molecule and drug_likeness need RDKit, which is not installed: pip install 'gptgan_jax[molecules]'"
)


def valid_molecule(texts: Sequence[str], joined: bool = False) -> list[float]:
    """1 where a text is the SMILES of a molecule that RDKit parses and sanitises, with an atom in it; else 0.

    Args:
        texts: N texts. White space in one makes it no molecule, unless it is `joined`.
        joined: take spaces out first, which a tokenizer of words puts between symbols.
    """
    return [float(_molecule(text, joined) is not None) for text in texts]


def drug_likeness(texts: Sequence[str], invalid: float = 0.0, joined: bool = False) -> list[float]:
    """QED, the quantitative estimate of drug-likeness in [0, 1] (Bickerton et al. 2012, Nature Chemistry 4, 90).

    Args:
        texts: N texts.
        invalid: for a text that is no molecule.
        joined: as of `valid_molecule`.
    """
    _rdkit()
    from rdkit.Chem import QED

    molecules = [_molecule(text, joined) for text in texts]
    return [invalid if molecule is None else float(QED.qed(molecule)) for molecule in molecules]


def _molecule(text: str, joined: bool) -> Any:
    """The molecule of a text, sanitised; None where it is none, or one of no atoms."""
    chem = _rdkit()
    text = text.replace(" ", "") if joined else text
    # RDKit takes what follows white space for a name, and a NUL for the end.
    if not text or any(char.isspace() or char == "\0" for char in text):
        return None
    molecule = chem.MolFromSmiles(text)
    return None if molecule is None or not molecule.GetNumAtoms() else molecule


def _rdkit() -> Any:
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise UserError(NOT_INSTALLED) from None
    rdBase.DisableLog("rdApp.*")  # a line on standard error for every text that is no molecule
    return Chem
