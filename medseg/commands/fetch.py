"""medseg fetch"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    site: Annotated[Path, typer.Argument(help="The site's file, site.yaml.")],
    source: Annotated[str, typer.Argument(help="Which archive: a name of the section sources.")],
    key: Annotated[
        list[str],
        typer.Argument(
            help="KEY=VALUE: PatientID, StudyDate (20261101, 20261101-, 20261101-20261107), ModalitiesInStudy, "
            "AccessionNumber, StudyInstanceUID or StudyDescription; * stands for any letters."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be fetched.")] = False,
    partly: Annotated[
        bool, typer.Option("--partly", help="A study of which the archive does not give all becomes a job as it is.")
    ] = False,
) -> None:
    """Fetch studies from an archive, by C-FIND and C-GET (or C-MOVE to `medseg listen`), or by QIDO-RS and WADO-RS.

    A study that is here whole becomes a job at once, which `medseg work` routes and runs. What is here already is not
    taken twice. Exit code 1 when a study could not be fetched whole; to fetch it again adds what was missing.

    Example: medseg fetch site.yaml pacs StudyDate=20261101- ModalitiesInStudy=CT --dry-run
    """
    import getpass

    from medseg import interrupts
    from medseg.service.intake import asking, fetching
    from medseg.service.settings.site import load

    loaded, keys = load(site), asking.keys(key)
    with interrupts.by_sigterm():
        studies = fetching.archive(loaded, source).find(keys)
        for one in studies:
            told = (one.study_date, one.patient_id, one.modalities.replace("\\", ","), one.description, one.study_uid)
            print("  ".join((*(text or "-" for text in told), f"{one.objects or '?'} objects")))
        if dry_run or not studies:
            print(f"{len(studies)} studies would be fetched" if studies else "no study fits")
            return
        ended = fetching.fetch(loaded, source, keys, studies, getpass.getuser(), partly=partly)
    for fetched in ended:
        became = f"job {fetched.job}" if fetched.job else "nothing new, all of it was here"
        became += f", in part: {fetched.partly}" if fetched.partly else ""
        print(f"{fetched.study.study_uid}: {fetched.problem or became}")
    good = [fetched for fetched in ended if not fetched.problem]
    parts = sum(bool(fetched.partly) for fetched in good)
    ending = f"{len(good) - parts} of {len(ended)} studies fetched" + (f", {parts} in part" if parts else "")
    print(f"{ending}, {sum(fetched.objects for fetched in ended)} objects")
    if len(good) < len(ended):
        raise typer.Exit(1)
