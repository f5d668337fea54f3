"""All inputs by name."""

from __future__ import annotations

from hostile import inputs_damage, inputs_files, inputs_streams
from hostile.cases import Case

CASES: dict[str, Case] = {}
for _room in (inputs_damage, inputs_streams, inputs_files):
    for _case in _room.cases():
        assert _case.name not in CASES, _case.name
        CASES[_case.name] = _case
FAST = [name for name, case in CASES.items() if case.fast]
