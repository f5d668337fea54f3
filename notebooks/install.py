# On Colab this installs the package, and what it needs and Colab lacks. Elsewhere it does nothing.
import sys

if "google.colab" in sys.modules:
    import importlib
    import re
    import subprocess
    from importlib import metadata

    def version(name):
        found = list(metadata.distributions(name=name))
        return found[0].version if found else None

    def install(*lines):  # each alone, without its dependencies: nothing that Colab brings is touched
        if lines:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *lines], check=True)
            importlib.invalidate_caches()

    kept = [f"{name} {version(name)}" for name in ("numpy", "torch", "pandas", "ipython")]
    new = [] if version("v2a-nb") else ["v2a-nb @ git+https://github.com/REPOSITORY"]
    install(*new)
    needed = [line for line in metadata.requires("v2a-nb") if "extra ==" not in line]
    lacking = [line for line in needed if version(re.split("[>=]", line)[0]) is None]
    install(*lacking)
    print("installed:", ", ".join([*new, *lacking]) or "nothing, all is here")
    print("left as they were:", ", ".join(kept))
