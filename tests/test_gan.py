"A GAN killed at any moment goes on where it was: both players, the average, both optimizers, the history and the grids end the same, bit for bit."
import pytest
import test_resume
from test_resume import EPOCHS, killed, killed_many_times, run, server, undisturbed  # noqa: F401, two are fixtures

pytestmark = pytest.mark.xdist_group("resume")  # one process imports for all of them
test_resume.start.set_forkserver_preload(["resume", "resume_gan"])
MODELS = dict(dcgan="half written", acgan="old not deleted")


def go(*args, **kwargs):
    from resume_gan import train
    train(*args, **kwargs)


@pytest.fixture(autouse=True)
def gans(monkeypatch):
    "The machinery of test_resume.py, with another training."
    monkeypatch.setattr(test_resume, "go", go)


@pytest.mark.parametrize("model", MODELS)
def test_kills(model, undisturbed, tmp_path):
    "At random moments, in the turn of either player, and once within a save."
    reference = undisturbed(model)
    assert reference["steps"] == dict(dcgan=12, acgan=18)[model] and len(reference["grids"]) == EPOCHS
    assert any(k.startswith("slow.") for k in reference["state"]) and {"d_loss", "g_loss", "diversity_A"} <= {*reference["history"]}
    killed_many_times(model, tmp_path, reference, undisturbed.pace(model), 3, [MODELS[model]])


def test_the_comparison_has_eyes(undisturbed, tmp_path):
    "A run that forgets its optimizers' moments ends elsewhere."
    killed(tmp_path/"run", 5, method="dcgan")
    assert run(tmp_path/"run", method="dcgan", forgets="_set_opt_state")["state"] != undisturbed("dcgan")["state"]


def test_another_games_checkpoint(undisturbed, tmp_path):
    "Other turns or other learning are another run."
    killed(tmp_path/"run", 3, method="dcgan")
    error = run(tmp_path/"run", method="dcgan", betas=(0., .9))
    assert error["kind"] == "RecordError" and "belongs to another run: betas is [0.5, 0.999] there and [0.0, 0.9] here" in error["text"]
    assert run(tmp_path/"run", method="dcgan") == undisturbed("dcgan")
