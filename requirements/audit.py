"""Looks every pinned package up among the published advisories, by pip-audit; called by `make audit`.

Ends with 1 where an advisory concerns a pin, with 2 where pins could not be looked up, which needs a network.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;#*]+)", re.MULTILINE)


def pins() -> list[str]:
    """`name==version` of every package that a file beside this one pins."""
    lines = {
        f"{name.lower().replace('_', '-').replace('.', '-')}=={version}"
        for file in REQUIREMENTS.glob("*.txt")
        for name, version in PIN.findall(file.read_text(encoding="utf-8"))
    }
    return sorted(lines)


def summarise(report: dict) -> tuple[list[str], int]:
    """Lines to print and the exit code, of pip-audit's report in JSON."""
    dependencies = report["dependencies"]
    unknown = [one["name"] for one in dependencies if "skip_reason" in one]
    lines = []
    for one in dependencies:
        for found in one.get("vulns", []):
            mended = ", ".join(found["fix_versions"]) or "no release yet"
            names = ", ".join([found["id"], *found.get("aliases", [])])
            lines.append(f"{one['name']} {one['version']}: {names}; mended by {mended}")
    concerned = bool(lines)
    if unknown:
        lines.append(
            f"{len(unknown)} of {len(dependencies)} packages could not be looked up ({', '.join(unknown[:3])}"
            f"{', …' if len(unknown) > 3 else ''}). The advisories are asked for over the network: run it where there "
            "is one."
        )
    if not lines:
        lines.append(f"no published advisory concerns any of {len(dependencies)} pinned packages")
    return lines, 1 if concerned else 2 if unknown else 0


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder, "pins.txt")
        asked.write_text("\n".join(pins()) + "\n", encoding="utf-8")
        command = ["-m", "pip_audit", "-r", asked, "--no-deps", "--disable-pip", "--format", "json"]
        done = subprocess.run([sys.executable, *command, "--progress-spinner", "off"], capture_output=True, text=True)
    try:
        lines, code = summarise(json.loads(done.stdout))
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it says no reason"]
        lines, code = [f"pip-audit could not ask ({last[0]}). The advisories are asked for over the network."], 2
    print("\n".join(f"audit: {line}" for line in lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
