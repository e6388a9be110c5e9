"""Bad input: one line that says what is wrong, exit status 2, and nothing written.

A row of a table is `name | what the user gives | what the line must say`. The whole folder, contents and times, is
compared before and after: that is the proof that nothing was written.
"""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
import yaml
from tiny import tiny_experiment, write_config

from gptgan_jax.cli import main
from gptgan_jax.runs.checkpoints import Checkpoints
from gptgan_jax.runs.folder import RunFolder
from gptgan_jax.runs.held_out import held_out_of, save_held_out
from gptgan_jax.training.phases import build_gan

# What follows `gptgan train tiny.yaml`.
OVERRIDES = """
a misspelt key            | --likelihood.stepz 3     | 'likelihood.stepz'; did you mean 'likelihood.steps'?
a misspelt section        | --likelyhood.steps 3     | unknown key 'likelyhood'; did you mean 'likelihood'?
a key of nowhere          | --xyzzy 3                | unknown key 'xyzzy'; the keys here are name, runs_folder
a key of another kind     | --generator.hidden 3     | unknown key 'generator.hidden'
a value with sub-keys     | --seed.x 3               | seed
a section given a scalar  | --likelihood 3           | likelihood is a section with keys of its own
an override without value | --seed                   | --seed needs a value
an override in its place  | --seed --name x          | --seed needs a value
a stray positional        | stray                    | unexpected argument 'stray'
a bare --                 | -- x                     | unexpected argument '--'
an empty key              | --. x                    | unknown key
a single dash             | -seed 3                  | unexpected argument '-seed'
an unknown kind           | --data.kind txt          | data.kind is 'txt'; choose one of grammar, text, hf, oracle
a list as kind            | --data.kind [text]       | data.kind is '[text]'; choose one of
no kind                   | --data.kind null         | data.kind is None; choose one of
half a list               | --discriminator.kind cnn --discriminator.widths '[1, 2' | '[1, 2' is not a list
text for an integer       | --likelihood.steps many  | likelihood.steps: should be a valid integer
a fraction for an integer | --seed 1.5               | seed: should be a valid integer
text for a number         | --objective.temperature hot  | objective.temperature: should be a valid number
text for true or false    | --objective.dense maybe  | objective.dense: should be a valid boolean
none of the options       | --objective.pair_loss rel    | objective.pair_loss: should be 'non_saturating', 'hinge', 'relativistic'
null for a number         | --seed null              | seed: should be a valid integer, not None
not a number              | --objective.temperature nan  | objective.temperature: should be a finite number
infinity                  | --objective.kl_weight inf    | objective.kl_weight: should be a finite number
below the range           | --likelihood.batch_size 0    | likelihood.batch_size: should be greater than or equal to 1
at an open bound          | --evaluation.top_p 0     | evaluation.top_p: should be greater than 0, not '0'
above the range           | --evaluation.top_p 2     | evaluation.top_p: should be less than or equal to 1, not '2'
a seed beyond 31 bits     | --seed 4000000000        | seed: should be less than 2147483648
no window                 | --discriminator.kind cnn --discriminator.widths [0] | discriminator.widths
text for a list           | --discriminator.kind cnn --discriminator.widths x   | discriminator.widths: should be a valid
a name with a slash       | --name a/b               | name 'a/b' must be a plain folder name
a name too long           | --name {long}            | name: string should have at most 200 characters
too few positions         | --generator.max_positions 9  | generator.max_positions 9 is less than 1 + data.max_prompt_length 3
heads and width           | --generator.heads 3      | generator: width 8 is not a multiple of heads 3
no phase at all           | --likelihood.steps 0 --warmup.steps 0 --adversarial.steps 0 | likelihood.steps and adversarial.steps are both 0
a judge unlike the writer | --discriminator.kind transformer --discriminator.from_generator true | discriminator.layers is 4
a judge from an LSTM      | --discriminator.kind transformer --discriminator.from_generator 1 --generator.kind lstm | decoder-only
another vocabulary        | --vocab_size 999         | vocab_size 999: the tokenizer has 18 tokens
missing text              | --data.train no.txt      | /no.txt
a glob without match      | --data.train no*.txt     | data.train: no file matches /
a folder as text          | --data.train .           | is a folder; name a file or a glob
empty text                | --data.train void.txt    | /void.txt is empty; it should hold one document a line
blank text                | --data.train blank.txt   | /blank.txt is empty
text that is not UTF-8    | --data.train latin.txt   | latin.txt, line 3: not UTF-8 (byte 0xe9 at position 4)
validation text missing   | --data.valid no.txt      | data.valid: no such file: /
too little to hold out of | --data.train one.txt     | of the 1 document of data.train
no text named             | --data.train null        | data.train: no training text named
a column that is missing  | --data.kind hf --data.train rows.json --data.text_column said | no column said; there are: text
json that is none         | --data.kind hf --data.train one.txt | one.txt
a stream without end      | --data.kind hf --data.streaming yes | data.streaming: needs data.max_documents
an oracle that is missing | --data.kind oracle --data.path no.npz | no.npz: no such file; an oracle is an .npz file
a seed no key can hold    | --data.kind oracle --data.seed {nines} | data.seed
a tokenizer missing       | --tokenizer.kind file --tokenizer.path no.json  | no.json: no such file; tokenizer.path should name
a tokenizer that is none  | --tokenizer.kind file --tokenizer.path one.txt  | one.txt: not a tokenizer.json
a tokenizer of other text | --tokenizer.kind file --tokenizer.path x.json   | data.train
a baseline of no update   | --continued.steps 1 --likelihood.optimizer.accumulate 2 | continued.steps 1 (adversarial.steps where it is null)
a baseline of no rate     | --continued.learning_rate 0 | continued.learning_rate: should be greater than 0
a greedy sweep            | --evaluation.sweep.temperatures [0.0,1.0] | evaluation.sweep: temperatures should be at least one number, all above 0
a sweep of nothing        | --evaluation.sweep.top_p [] | evaluation.sweep: top_p should be at least one number
a sweep of words          | --evaluation.sweep.top_p [all] | evaluation.sweep.top_p
an unknown embedder       | --evaluation.embedder bert  | evaluation.embedder: should be 'language_model' or 'minilm'
no seeds                  | --seeds 0                | --seeds '0' should be a whole number, at least 1
seeds of nothing          | --seeds                  | --seeds '' should be a whole number
half a seed               | --seeds=2.5              | --seeds '2.5' should be a whole number
a runs folder in a file   | --runs_folder one.txt    | one.txt
a runs folder too long    | --runs_folder {long}{long}   | xxx
a start that is missing   | --start_from runs/none   | /runs/none is no run folder: it has no config.yaml
a start too early         | --start_from runs/new    | holds no checkpoint yet; the first is saved after evaluation.every
a start at no checkpoint  | --start_from runs/earlier --start_checkpoint 77 | no checkpoint '77'; give best, last, a phase, or
a start without a phase   | --start_from runs/earlier --start_checkpoint adversarial | no checkpoint 'adversarial'
a start of nothing        | --start_from ''          | start_from: string should have at least 1 character
another network           | --start_from runs/earlier --generator.width 16 | another network (generator.width: 8 -> 16); set both alike
another kind of network   | --start_from runs/earlier --generator.kind lstm | another network (generator.
another size than started | --start_from runs/earlier --vocab_size 999  | vocab_size 999: the tokenizer has 18 tokens
ids from a start of words | --start_from runs/earlier --data.kind oracle | data is token ids, and
a start's tokenizer       | --start_from runs/earlier --tokenizer.kind file --tokenizer.path x.json | tokenizer.path has a vocabulary of 2,
a run of another config   | --name earlier --seed 3  | holds a run of another config (seed: 0 -> 3); choose another --name
a folder that is no run   | --name pictures          | runs/pictures exists and is no run folder; choose another --name
a file in a run's place   | --name file.txt          | runs/file.txt: Not a directory; choose another --name
"""  # noqa: E501
# Keys over those of tiny.yaml.
IN_FILE = """
a section of nowhere      | {optimizer.lr: 1}        | unknown key 'optimizer'
a list for a section      | {warmup.steps: null, warmup.batch_size: null, warmup: [1]} | warmup is a section with keys of its own, not a list
a number for text         | {name: 5}                | name: should be a valid string, not 5
true for an integer       | {warmup.steps: true}     | warmup.steps should be integer, not true
"""  # noqa: E501
# In place of tiny.yaml, with escapes.
WHOLE_FILE = r"""
malformed YAML            | seed: 1\nname: [1\nx: y\n     | bad.yaml, line 3:
a tab                     | data:\n\tkind: text\n         | bad.yaml, line 2: found character '\t' that cannot start
a key twice               | seed: 1\nname: x\nseed: 2\n   | bad.yaml, line 3: key 'seed' is given twice
a list as key             | ? [a, b]\n: 1\n               | bad.yaml, line 1
a day that does not exist | name: 2026-02-30\n            | bad.yaml
a list of configs         | - seed: 1\n                   | a config is a mapping of keys to values, not a list
a config not in UTF-8     | name: \xff\n                  | bad.yaml: not UTF-8 at byte 6
a control character       | name: a\x07b\n                | bad.yaml: not valid YAML
"""
# In place of a comparison's file; its base is tiny.yaml unless it says otherwise.
COMPARISONS = """
a key of nowhere          | arm: {a: }                    | bad.yaml: unknown key 'arm'; did you mean 'arms'?
a config for a comparison | data: {kind: text}            | bad.yaml: unknown key 'data'; the keys here are base, seeds
no arms                   | seeds: 2                      | bad.yaml: arms should be at least one
a list of arms            | arms: [a, b]                  | bad.yaml: arms should be a mapping of names to values, not a list
no base                   | base: null                    | bad.yaml: base should be a config file, such as
a base that is missing    | {base: no.yaml, arms: {a: }}  | bad.yaml: base: no.yaml: no such config file
a base that is none       | {base: one.txt, arms: {a: }}  | bad.yaml: base: one.txt: a config is a mapping
half a seed               | {seeds: 1.5, arms: {a: }}     | bad.yaml: seeds 1.5 should be a whole number, at least 1
no seeds                  | {seeds: 0, arms: {a: }}       | bad.yaml: seeds 0 should be a whole number
true seeds                | {seeds: yes, arms: {a: }}     | bad.yaml: seeds True should be a whole number
a key of no config        | {set: {warmup.stepz: 1}, arms: {a: }} | unknown key 'warmup.stepz'; did you mean 'warmup.steps'?
a key through a value     | {set: {seed.x: 1}, arms: {a: }} | bad.yaml: base tiny.yaml: seed.x: seed is a value, not a section
settings that are none    | {set: 3, arms: {a: }}         | bad.yaml: set should be a mapping of names to values, not a int
nothing to start from     | {set: {likelihood.steps: 0}, arms: {a: }} | likelihood.steps is 0, and the arms would have nothing
no temperature 1          | {set: {evaluation.sweep.temperatures: [0.5]}, arms: {a: }} | evaluation.sweep lacks temperature 1
an arm that is a word     | {arms: {a: fast}}             | bad.yaml: arm a should be a mapping with preset, set, both or neither
an arm's misspelt key     | {arms: {a: {presett: x}}}     | bad.yaml: arm a: unknown key 'presett'; did you mean 'preset'?
a preset that is missing  | {arms: {a: {preset: no.yaml}}} | bad.yaml: arm a: preset: no.yaml: no such config file
a preset of no name       | {arms: {a: {preset: 3}}}      | bad.yaml: arm a: preset should be a config file, not 3
an arm's unknown key      | {arms: {a: {set: {objective.rewart: x}}}} | bad.yaml: arm a: unknown key 'objective.rewart'; did you mean
an arm's unknown section  | {arms: {a: {set: {objectiv.reward: x}}}} | bad.yaml: arm a: unknown key 'objectiv'; did you mean 'objective'?
an arm's wrong value      | {arms: {a: {set: {objective.temperature: hot}}}} | bad.yaml: arm a: objective.temperature: should be a
an arm that can't be      | {arms: {a: {set: {objective.estimator.kind: rollout}}}} | bad.yaml: arm a: objective.estimator rollout judges
an arm of other text      | {arms: {a: {set: {data.max_length: 5}}}} | bad.yaml: arm a: data.max_length is the same for all arms
an arm of other training  | {arms: {a: {set: {likelihood.steps: 5}}}} | bad.yaml: arm a: likelihood.steps is the same for all arms
an arm's key of no kind   | {arms: {a: {set: {objective.estimator: {baseline: none, kind: rloo}}}}} | bad.yaml: arm a: unknown key 'objective.estimator.baseline'
an arm's own network      | {arms: {a: {set: {generator.width: 16}}}} | bad.yaml: arm a: its generator is another network
an arm of no steps        | {arms: {a: {set: {adversarial.steps: 0}}}} | bad.yaml: arm a: adversarial.steps is 0
an arm that freezes none  | {arms: {a: {set: {adversarial.generator_optimizer.frozen: [xyz]}}}} | bad.yaml: arm a: adversarial.generator_optimizer.frozen 'xyz' matches none
two arms of one folder    | {arms: {a b: , A-B: }}        | bad.yaml: arm A-B: its folder would be a-b, as that of arm a b; rename one
two arms of one label     | {arms: {x: {set: {objective.reward: constant}}, 'control: x': }} | as another arm; rename one
an arm of no letters      | {arms: {'?': }}               | bad.yaml: arm ?: its name should hold a letter or a digit
an arm called likelihood  | {arms: {Likelihood: }}        | bad.yaml: arm Likelihood: that is what the baselines are called
a name of no folder       | {set: {name: a/b}, arms: {a: }} | name 'a/b' must be a plain folder name
a comparison in a run     | {set: {name: earlier}, arms: {a: }} | runs/earlier is a run folder; choose another --name
a run of another kind     | {set: {name: half}, arms: {a: }} | holds a run of another config
"""  # noqa: E501
COMMANDS = """
no comparison             | compare                  | give a file first: gptgan compare FILE
a missing comparison      | compare no.yaml          | no.yaml: no such config file
a comparison of no seeds  | compare tiny.yaml --seeds 0 | --seeds '0' should be a whole number, at least 1
no config                 | train                    | give a config first: gptgan train CONFIG
an override for a config  | train --seed 1           | give a config first
a config that is missing  | train no.yaml            | no.yaml: no such config file; the project's own are in configs/
a directory as config     | train runs               | runs: Is a directory; give a YAML file
a config inside a file    | train tiny.yaml/x        | tiny.yaml/x
sample of nothing         | sample runs/missing      | runs/missing is no run folder: it has no config.yaml
sample of no run          | sample runs/pictures     | runs/pictures is no run folder
evaluate of nothing       | evaluate runs/missing    | runs/missing is no run folder: it has no config.yaml
evaluate of no run        | evaluate runs/pictures   | runs/pictures is no run folder
sample too early          | sample runs/new          | holds no checkpoint yet; the first is saved after evaluation.every
evaluate too early        | evaluate runs/new        | has no checkpoint of a trained generator yet
sweep too early           | evaluate runs/new --sweep | has no checkpoint of a trained generator yet
report of nothing         | report runs/missing      | runs/missing is no run folder: it has no config.yaml
report too early          | report runs/new          | run `gptgan evaluate runs/new` first
report of one too early   | report runs/earlier runs/new --out runs/x | run `gptgan evaluate
report of no run          | report                   | required: run
a step not saved          | sample runs/earlier --checkpoint 77  | no checkpoint '77'; give best, last, a phase, or the step of
a phase not begun         | sample runs/earlier --checkpoint adversarial  | no checkpoint 'adversarial'
a checkpoint of no name   | sample runs/earlier --checkpoint bset    | no checkpoint 'bset'
unknown words             | sample runs/earlier --prompt 'two zebras fly' | the tokenizer doesn't know 'zebras', 'fly'
a prompt too long         | sample runs/earlier --prompt 'two cats run here two cats' | 6 tokens; this run takes at most 5
no texts                  | sample runs/earlier --num 0           | --num: '0' should be a whole number, at least 1
half a text               | sample runs/earlier --num 1.5         | --num: '1.5' should be a whole number
a temperature below 0     | sample runs/earlier --temperature -1  | --temperature: '-1' should be a number, at least 0
no temperature            | sample runs/earlier --temperature nan | --temperature: 'nan' should be a number
no mass                   | sample runs/earlier --top-p 0         | --top-p: '0' should be a number
too much mass             | sample runs/earlier --top-p 1.1       | --top-p: '1.1' should be a number
fewer than no tokens      | sample runs/earlier --top-k -1        | --top-k: '-1' should be a whole number
a seed below 0            | sample runs/earlier --seed -1         | --seed: '-1' should be a whole number
an option of nowhere      | sample runs/earlier --nmu 3           | unrecognized arguments: --nmu 3
no run to sample          | sample                                | required: run
a misspelt command        | trian tiny.yaml                       | 'trian'
no command                |                                       | required: COMMAND
"""  # noqa: E501
UNKNOWS_ALL = (
    b'{"version":"1.0","model":{"type":"BPE","vocab":{"</s>":0,"#":1},"merges":[]},"added_tokens":[],'
    b'"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,"truncation":null,"padding":null}'
)
BAD_FILES = {
    "void.txt": b"",
    "blank.txt": b" \n\n",
    "latin.txt": b"a b\nc d\ncaf\xe9 e\n",
    "one.txt": b"a b c\n",
    "rows.json": b'{"text": "a b"}\n{"text": "c d"}\n',
    "x.json": UNKNOWS_ALL,
}


def table(text: str) -> list:
    rows = [[cell.strip() for cell in line.split(" | ")] for line in text.strip("\n").split("\n")]
    return [pytest.param(given, says, id=name.replace(" ", "-")) for name, given, says in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user stands: tiny.yaml, its text, bad files, and earlier runs."""
    folder = tmp_path_factory.mktemp("home")
    for name, content in BAD_FILES.items():
        (folder / name).write_bytes(content)
    experiment, _ = tiny_experiment(folder)
    write_config(folder, {"runs_folder": "runs"})
    for name in ("new", "earlier"):
        run = RunFolder(folder / "runs" / name)
        save_held_out(run.path, held_out_of(experiment))
        run.create(experiment.config, experiment.tokenizer)
        text = run.config_file.read_text().replace("name: tiny", f"name: {name}")
        run.config_file.write_text(text)
    gan = build_gan(experiment.config, "likelihood", experiment.generator, experiment.discriminator)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save("likelihood", jax.jit(gan.init)(jax.random.key(0), experiment.example_batch()), 2.0)
    (folder / "runs" / "pictures").mkdir()
    (folder / "runs" / "pictures" / "cat.jpg").write_bytes(b"cat")
    (folder / "runs" / "file.txt").write_bytes(b"words")
    shutil.copytree(folder / "runs" / "new", folder / "runs" / "half" / "likelihood-seed0")
    return folder


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `home` to stand in."""
    folder = tmp_path / "here"
    shutil.copytree(home, folder)
    monkeypatch.chdir(folder)
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, str]]:
    """Every path under a folder, with the time of its last change and what it holds."""
    return {
        str(path): (path.stat().st_mtime_ns, "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest())
        for path in [folder, *folder.rglob("*")]
    }


def assert_refused(arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture) -> None:
    before = snapshot(folder)
    capsys.readouterr()
    try:
        status = main(arguments)
    except SystemExit as exit:  # argparse leaves by itself
        status = exit.code
    written, errors = capsys.readouterr()
    assert status == 2
    assert written == ""
    assert_one_line(errors, says)
    assert snapshot(folder) == before


def assert_one_line(errors: str, says: str) -> None:
    """One line besides the notes on the text, which hold whatever comes after them, and argparse's usage."""
    errors = re.sub(r"^usage: .*\n( +.*\n)*", "", errors)
    lines = [line for line in errors.splitlines() if not line.startswith("note: ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("gptgan"), errors
    assert says in lines[0]


@pytest.mark.parametrize(("given", "says"), table(OVERRIDES))
def test_a_bad_override_or_what_it_names_is_refused(given: str, says: str, here: Path, capsys) -> None:
    given = given.replace("{long}", 201 * "x").replace("{nines}", 30 * "9")
    assert_refused(["train", "tiny.yaml", *shlex.split(given)], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(IN_FILE))
def test_a_bad_key_in_a_config_is_refused(given: str, says: str, here: Path, capsys) -> None:
    write_config(here, {"runs_folder": "runs"} | yaml.safe_load(given))
    assert_refused(["train", "tiny.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(WHOLE_FILE))
def test_a_file_that_is_no_config_is_refused(given: str, says: str, here: Path, capsys) -> None:
    (here / "bad.yaml").write_bytes(given.encode().decode("unicode_escape").encode("latin-1"))
    assert_refused(["train", "bad.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(COMPARISONS))
def test_a_bad_comparison_is_refused(given: str, says: str, here: Path, capsys) -> None:
    raw = {"base": "tiny.yaml"} | yaml.safe_load(given)
    (here / "bad.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    assert_refused(["compare", "bad.yaml"], says, here, capsys)


@pytest.mark.parametrize(("given", "says"), table(COMMANDS))
def test_a_bad_command_line_is_refused(given: str, says: str, here: Path, capsys) -> None:
    assert_refused(shlex.split(given), says, here, capsys)


def test_too_little_disk_is_refused_with_what_it_takes(here: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(total=10**9, used=10**9, free=2000))
    assert_refused(["train", "tiny.yaml"], "the disk has 0 MB free; make room", here, capsys)


def test_a_missing_wandb_is_refused_before_the_run_folder_is_made(here: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    arguments = ["train", "tiny.yaml", "--records.wandb_project", "gan"]
    assert_refused(arguments, "wandb_project needs the package wandb: pip install", here, capsys)


def test_a_run_without_a_generator_phase_ends_well_or_is_refused_at_once(here: Path, capsys) -> None:
    before = snapshot(here)
    status = main(["train", "tiny.yaml", "--likelihood.steps", "0", "--adversarial.steps", "0"])
    assert status == 0 or snapshot(here) == before, capsys.readouterr().err


def test_a_batch_that_eight_devices_cannot_share_is_refused(here: Path) -> None:
    before = snapshot(here)
    arguments = ["train", "tiny.yaml", "--warmup.batch_size", "12"]
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from gptgan_jax.cli import main; sys.exit(main())", *arguments],
        env=os.environ
        | {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, "warmup.batch_size 12 is not a multiple of the 8 devices; try 16")
    assert snapshot(here) == before


def test_a_config_that_cannot_be_read_is_refused(here: Path, capsys) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read every file")
    (here / "tiny.yaml").chmod(0)
    assert_refused(["train", "tiny.yaml"], "tiny.yaml: Permission denied; give a YAML file", here, capsys)
