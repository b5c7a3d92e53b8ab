"""The probe: asks a real cluster what nobody outside AWS has written down.

``dsqlproxy check --probe`` runs it and prints the report, which its user may send
back: it holds no token, no key, no name of a cluster and no account.
"""

from dsqlproxy.probe.pace import Pace
from dsqlproxy.probe.probe import run_probe
from dsqlproxy.probe.report import Answered, ProbeReport

__all__ = ["Answered", "Pace", "ProbeReport", "run_probe"]
