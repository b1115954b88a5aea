"""The cells' figures as a section of benches/RESULTS.md."""

import numpy as np

import cells
import figures
import tables

TREES = ["lightgbm", "xgboost", "catboost"]
TEXTS = ["words", "frozen", "words+frozen"]
ORDER = ["logistic", *TREES, *TEXTS]
OURS = "riskft"
NAMES = {"logistic": "logistic regression", "lightgbm": "LightGBM", "xgboost": "XGBoost",
         "catboost": "CatBoost", "words": "TF-IDF + logistic", "frozen": "frozen MiniLM + logistic",
         "words+frozen": "the two averaged"}
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


def verdict(reached):
    return "reached" if reached else "MISSED"


def told(gain):
    mean, low, high = gain
    return f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"


def verdicts(scores):
    """What the targets ask, as far as both sides have all their cells."""
    judge = {"loans": loans, "loans_1000": few_loans, "loans_time": late_loans,
             "complaints": complaints, "relief": complaints}.get(scores.name, second_tables)
    found = peers_line(scores)
    return found + (judge(scores) if OURS in scores.scores else [])


def peers_line(scores):
    best = scores.best(TREES if scores.experiment["table"] != "complaints" else ORDER)
    if best is None:
        return []
    lines = [f"* Best single peer: {NAMES[best]}, {scores.auc(best):.4f}"]
    for name in scores.scores:
        if name.startswith(OURS):
            lines.append(f"* {name} less {NAMES[best]}: AUC {told(scores.gain(name, best))}, "
                         f"log-loss {told(scores.gain(name, best, figures.loss_gain))}")
    return lines


def over_best(scores, least, among=TREES):
    """Whether riskft's mean AUC is `least` above the best of them."""
    best = scores.best(among)
    if best is None:
        return None, []
    gain = scores.gain(OURS, best)
    line = (f"* riskft over {NAMES[best]}: AUC {told(gain)} (target {least:+.3f}): "
            f"**{verdict(gain[0] >= least)}**")
    return best, [line]


def loans(scores):
    best, lines = over_best(scores, 0.002)
    if best is None:
        return lines
    loss = scores.gain(OURS, best, figures.loss_gain)
    error = scores.pooled(OURS, figures.calibration_error)
    return lines + [
        f"* Log-loss {told(loss)} (target: not worse): **{verdict(loss[0] <= 0)}**",
        f"* ECE over all rows {error:.4f} (target below 0.01): **{verdict(error < 0.01)}**",
    ]


def few_loans(scores):
    return over_best(scores, 0.005)[1]


def late_loans(scores):
    return over_best(scores, 0.0)[1]


def complaints(scores):
    lines = over_best(scores, 0.005, ["words+frozen"])[1] if scores.name == "complaints" else []
    tuned, frozen, full = "riskft-lora", "riskft-frozen", "riskft-full"
    if tuned in scores.scores and frozen in scores.scores:
        gain = scores.gain(tuned, frozen)
        lines.append(f"* LoRA over frozen: AUC {told(gain)} (target +0.005, a stretch +0.010): "
                     f"**{verdict(gain[0] >= 0.005)}**")
    if tuned in scores.scores and full in scores.scores:
        gain = scores.gain(tuned, full)
        lines.append(f"* LoRA less full fine-tuning: AUC {told(gain)} (target above -0.004): "
                     f"**{verdict(gain[0] >= -0.004)}**")
    return lines + [memory(scores, name) for name in (frozen, tuned, full) if name in scores.scores]


def memory(scores, name):
    peak = scores.cost(name, "peak_memory_bytes") / 2**30
    return (f"* {name}: {scores.cost(name, 'cpu_seconds'):.0f} CPU s, "
            f"{peak:.2f} GiB of memory a training")


def second_tables(scores):
    return over_best(scores, 0.0)[1]
