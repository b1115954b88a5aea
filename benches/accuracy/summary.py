"""The cells' figures as a section of benches/RESULTS.md."""

import numpy as np

import cells
import figures
import tables

ON_COLUMNS = ["logistic", "lightgbm", "xgboost", "catboost"]
ON_TEXT = ["words", "frozen", "words+frozen"]
SINGLE = [*ON_COLUMNS, *ON_TEXT]
# Two boosted trees together are shown, not judged against.
ORDER = [*ON_COLUMNS, "xgboost+catboost", *ON_TEXT]
OURS = "riskft"
NAMES = {"logistic": "logistic regression", "lightgbm": "LightGBM", "xgboost": "XGBoost",
         "catboost": "CatBoost", "xgboost+catboost": "XGBoost and CatBoost averaged",
         "words": "TF-IDF + logistic", "frozen": "frozen MiniLM + logistic",
         "words+frozen": "words and frozen averaged"}
TITLES = {
    "loans": "20,000 loans, five folds",
    "loans_1000": "Loans, 1,000 training rows, ten draws, 10,000 test rows each",
    "loans_time": "Loans out of time: oldest 14,000 -> newest 6,000",
    "complaints": "Complaints, fee_issue, five draws of 1,025 training and 901 test rows",
    "relief": "Complaints, relief, five draws of 1,025 training and 901 test rows",
    "german": "German credit, 1,000 rows, five times five folds",
    "cards": "Card defaults, 6,000 rows, four columns, twice five folds",
}


class Scores:
    """All cells of one experiment: the truth and each contestant's scores, cell by cell."""

    def __init__(self, folder, experiment):
        self.experiment, self.name = experiment, experiment["name"]
        rows = tables.table(experiment["table"], folder)
        positive = dict(zip(rows[tables.KEYS[experiment["table"]]],
                            tables.truth(rows, experiment["target"])))
        parts = tables.parts(experiment, rows)
        tested = parts[parts["part"] == "test"]
        self.keys = [frame["key"] for _, frame in tested.groupby("cell")]
        self.labels = [np.array([positive[key] for key in keys]) for keys in self.keys]
        self.notes, self.scores, self.partial = {}, {}, {}
        for contestant in cells.contestants(folder, self.name):
            self.read(folder, contestant)

    def read(self, folder, contestant):
        found = [cells.read(folder, self.name, contestant, n) for n in range(len(self.keys))]
        there = sum(cell is not None for cell in found)
        if there < len(found):
            self.partial[contestant] = there
            return
        self.notes[contestant] = [notes for notes, _ in found]
        self.scores[contestant] = [scores.loc[list(keys)].to_numpy()
                                   for (_, scores), keys in zip(found, self.keys)]

    def over_cells(self, contestant, figure):
        return [figure(s, y) for s, y in zip(self.scores[contestant], self.labels)]

    def pooled(self, contestant, figure):
        return figure(np.concatenate(self.scores[contestant]), np.concatenate(self.labels))

    def cost(self, contestant, key):
        found = [notes[key] for notes in self.notes[contestant] if key in notes]
        return np.mean(found) if found else None

    def auc(self, contestant):
        return float(np.mean(self.over_cells(contestant, figures.auc)))

    def best(self, among):
        there = [name for name in among if name in self.scores]
        return max(there, key=self.auc, default=None)

    def gain(self, a, b, figure=figures.auc_gain):
        """Mean, low and high of a's figure less b's."""
        pairs = [figure(x, y, labels)
                 for x, y, labels in zip(self.scores[a], self.scores[b], self.labels)]
        if self.name == "loans_1000":
            return figures.interval("spread", 0, pairs)
        per_round = len(self.keys) // self.experiment["rounds"]
        return figures.interval("delong", per_round, pairs)


def text(folder):
    parts = [HEAD]
    for experiment in tables.experiments():
        scores = Scores(folder, experiment)
        if scores.scores:
            parts.append(section(scores))
    return "\n".join(parts)


HEAD = """## Accuracy beside peers: LightGBM, XGBoost, CatBoost, logistic regression, words and frozen text

Peers at PyPI's versions in benches/accuracy/requirements.txt, tuned by a handful of settings inside the
training rows, which both sides see the same of. AUC: mean over cells, and their standard deviation.
Log-loss and expected calibration error (ECE, ten bins of equal count) over all cells' rows together;
ECE also as the mean over single cells. Intervals are of 95%, paired by row (DeLong); with 1,000
training rows Student's over the ten draws. CPU s: processor seconds of one cell, tuning included.
"""


def section(scores):
    order = [name for name in ORDER if name in scores.scores]
    order += [name for name in scores.scores if name not in order]
    lines = [f"### {TITLES[scores.name]}", "",
             "| | AUC | sd | log-loss | ECE | ECE of a cell | mean score / mean outcome | CPU s | wall s |",
             "|---|---|---|---|---|---|---|---|---|"]
    lines += [row(scores, name) for name in order]
    lines += [""] + verdicts(scores)
    lines += [f"* {NAMES.get(name, name)}: {there} of {len(scores.keys)} cells so far, not shown"
              for name, there in scores.partial.items()]
    return "\n".join(lines) + "\n"


def row(scores, name):
    areas = scores.over_cells(name, figures.auc)
    spread = f"{np.std(areas, ddof=1):.4f}" if len(areas) > 1 else "-"
    loss = scores.pooled(name, lambda s, y: figures.losses(s, y).mean())
    whole = scores.pooled(name, figures.calibration_error)
    single = np.mean(scores.over_cells(name, figures.calibration_error))
    large = scores.pooled(name, lambda s, y: s.mean() / y.mean())
    cpu, wall = (f"{seconds:.0f}" if seconds is not None else "-"
                 for seconds in (scores.cost(name, "cpu_seconds"), scores.cost(name, "seconds")))
    return (f"| {NAMES.get(name, name)} | {np.mean(areas):.4f} | {spread} | {loss:.4f} | {whole:.4f} "
            f"| {single:.4f} | {large:.3f} | {cpu} | {wall} |")


def told(gain):
    mean, low, high = gain
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def verdicts(scores):
    """The best peer, what riskft's ways differ from it, and what the targets ask."""
    best = scores.best(SINGLE)
    if best is None:
        return []
    lines = [f"* Best single peer: {NAMES[best]}, {scores.auc(best):.4f}"]
    for name in scores.scores:
        if name.startswith(OURS):
            lines.append(f"* {name} less {NAMES[best]}: AUC {told(scores.gain(name, best))}, "
                         f"log-loss {told(scores.gain(name, best, figures.loss_gain))}")
    if OURS not in scores.scores:
        return lines
    judge = {"loans": loans, "loans_1000": few_loans, "complaints": complaints, "relief": tuning}
    return lines + judge.get(scores.name, other)(scores, best)


def target(what, found, least):
    return f"* Target: {what}, {found:+.4f} (at least {least:+.3f}): **{verdict(found >= least)}**"


def verdict(reached):
    return "reached" if reached else "MISSED"


def over(scores, peer, least):
    gain = scores.gain(OURS, peer)[0]
    return target(f"mean AUC over {NAMES[peer]}", gain, least)


def loans(scores, best):
    loss = scores.gain(OURS, best, figures.loss_gain)[0]
    error = scores.pooled(OURS, figures.calibration_error)
    return [
        over(scores, best, 0.002),
        f"* Target: log-loss not worse, {loss:+.4f}: **{verdict(loss <= 0)}**",
        f"* Target: ECE over all rows below 0.01, {error:.4f}: **{verdict(error < 0.01)}**",
    ]


def few_loans(scores, best):
    return [over(scores, best, 0.005)]


def other(scores, best):
    return [over(scores, best, 0.0)]


def complaints(scores, best):
    lines = [over(scores, ON_TEXT[-1], 0.005)] if ON_TEXT[-1] in scores.scores else []
    return lines + tuning(scores, best)


def tuning(scores, _best):
    """LoRA against the frozen and the fully tuned encoder, on the narrative alone, and what each takes."""
    frozen, tuned, full = ways = ["riskft-frozen", "riskft-lora", "riskft-full"]
    lines = [memory(scores, name) for name in ways if name in scores.scores]
    for of, less, least in [(tuned, frozen, 0.005), (tuned, full, -0.004)]:
        if of in scores.scores and less in scores.scores:
            gain = scores.gain(of, less)
            lines.append(f"* {of} less {less}: AUC {told(gain)}")
            lines.append(target(f"{of} less {less}", gain[0], least))
    return lines


def memory(scores, name):
    peak = scores.cost(name, "peak_memory_bytes") / 2**30
    kept = sum(notes["chosen"].get("tuned kept") is True for notes in scores.notes[name])
    return (f"* {name}: {scores.cost(name, 'cpu_seconds'):.0f} CPU s and {peak:.2f} GiB of memory "
            f"a training; the tuned encoder kept in {kept} of {len(scores.keys)}")
