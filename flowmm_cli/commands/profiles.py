"""`flowmm profiles`: list, show and check model profiles."""

from typing import Annotated

import typer

from flowmm_cli import options as o
from flowmm_cli import output

app = typer.Typer(help="List, show and check model profiles.")
Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A profile's name, or a YAML file.")]


@app.command("list")
def list_(json: o.Json = False) -> None:
    """List the model profiles: yours and the shipped ones."""
    from flowmm import load_profile, profile_names

    found = [load_profile(name) for name in profile_names()]
    if json:
        output.put_json([profile.model_dump(mode="json", exclude={"text"}) for profile in found])
        return
    rows = [(p.name, p.model_type or "any", p.method, p.description) for p in found]
    output.put_table(("name", "model type", "method", "description"), rows)


@app.command()
def show(name: Name, json: o.Json = False) -> None:
    """Print a profile, with what it extends filled in."""
    from flowmm import load_profile

    profile = load_profile(name)
    if json:
        output.put_json(profile.model_dump(mode="json", exclude={"text"}))
    else:
        output.put(profile.text.rstrip("\n"))


@app.command()
def check(name: Name) -> None:
    """Check a profile and the method it names; every problem is shown with its line and column."""
    from flowmm import load_method, load_profile

    profile = load_profile(name)
    load_method(profile.method)
    output.put(f"{name}: a valid profile")
