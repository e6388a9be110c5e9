#!/usr/bin/env bash
# RDKit 2026.9.1, as it is used to count valid molecules among generated texts: MolFromSmiles(text) is not None.
# Expected: an empty text is no molecule, nor is one with words, or with a second molecule, behind white space.
# Seen: the empty text is a molecule of no atoms; all behind the first white space is a name, or an extension of the
#   format, and counts for nothing. A generator that writes nothing, or goes on after a molecule, is then fully valid.
# Output seen:
#   '' valid, 0 atoms
#   'CCO and so on' valid, 3 atoms
#   'CCO )))((' valid, 3 atoms
#   'C1CC' none
# Exits non-zero if that changes.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT; cd "$work"
python3 -m pip install --quiet --disable-pip-version-check --target packages rdkit==2026.9.1 2> pip.log || { cat pip.log; exit 3; }
cat > see.py <<'P'
from rdkit import Chem, rdBase

rdBase.DisableLog("rdApp.*")
for text in ("", "CCO and so on", "CCO )))((", "C1CC"):
    molecule = Chem.MolFromSmiles(text)
    print(repr(text), "none" if molecule is None else f"valid, {molecule.GetNumAtoms()} atoms")
P
PYTHONPATH=packages python3 see.py | tee seen
diff seen - <<'S'
'' valid, 0 atoms
'CCO and so on' valid, 3 atoms
'CCO )))((' valid, 3 atoms
'C1CC' none
S
