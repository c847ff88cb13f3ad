"""What `make bench-check` promises: `python3 -m unittest discover -s bench`."""
import copy, json, unittest

from compare import compare
from report import RESULTS

ROW = {"syntax": "rle", "images": 16, "throughput, ratio": 2.0}
GPU = [{"network": "b0", "batch": 32, "decoders": decoders, "share kept, ratio": share} for decoders, share in [(4, 0.5), (8, 0.1), (None, None)]]
HARM = {"syntax": "j2k", "same decision, ratio": 1.0, "aim": "met"}


def parts(**rows):
    return {name: {"rows": rows} for name, rows in rows.items()}


class Compare(unittest.TestCase):
    def faults(self, old, new, wanted=None):
        return compare(old, new, wanted or list(old))[0]

    def test_results_are_as_good_as_themselves(self):
        with open(RESULTS) as file:
            results = json.load(file)["parts"]
        self.assertEqual(self.faults(results, copy.deepcopy(results)), [])
        self.assertEqual(self.faults(parts(gpu=GPU), parts(gpu=GPU)), [])

    def test_a_ratio_that_is_worse_by_more_than_15_percent_is_named(self):
        self.assertEqual(self.faults(parts(python=[ROW]), parts(python=[ROW | {"throughput, ratio": 1.8}])), [])
        [fault] = self.faults(parts(python=[ROW]), parts(python=[ROW | {"throughput, ratio": 1.7}]))
        self.assertIn("WORSE: python, rle, throughput, ratio", fault)

    def test_rows_that_share_their_first_column_are_told_apart(self):
        worse = copy.deepcopy(GPU)
        worse[1]["share kept, ratio"] = 0.05
        [fault] = self.faults(parts(gpu=GPU), parts(gpu=worse))
        self.assertIn("b0, 32, 8", fault)

    def test_a_part_a_row_or_a_ratio_that_is_gone_is_lost(self):
        old = parts(python=[ROW])
        for new in ({}, parts(python=[]), parts(python=[{"syntax": "rle"}]), parts(python=[ROW | {"throughput, ratio": None}])):
            [fault] = self.faults(old, new)
            self.assertIn("LOST: python, rle", fault)

    def test_a_part_that_was_not_asked_for_is_not_missed(self):
        self.assertEqual(self.faults(parts(python=[ROW], harm=[HARM]), parts(python=[ROW]), ["python"]), [])

    def test_files_that_only_some_machines_have_are_not_missed(self):
        self.assertEqual(self.faults(parts(python=[ROW | {"syntax": "real radiographs"}]), parts(python=[])), [])

    def test_an_aim_that_does_not_depend_on_the_machine_has_to_be_met_again(self):
        [fault] = self.faults(parts(harm=[HARM]), parts(harm=[HARM | {"aim": "NOT met"}]))
        self.assertIn("its aim was met before", fault)


if __name__ == "__main__":
    unittest.main()
