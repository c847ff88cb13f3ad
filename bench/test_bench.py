"""What `make bench` promises: `python3 -m unittest discover -s bench`."""
import contextlib, io, json, os, tempfile, unittest
from unittest import mock

import bench
import inputs
from against import stages


def part(rows):
    def measure():
        """A part."""
        if isinstance(rows, BaseException):
            raise rows
        return rows
    return measure


GOOD = part([{"what": "a", "x, ratio": 1.0}])


class Run(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.results = os.path.join(folder.name, "results.json")
        self.stays("RESULTS", self.results)
        self.stays("WORK", folder.name)
        self.stays("machine", lambda: {"date": "2026-02-02"})
        self.stays("versions", dict)

    def stays(self, name, value):
        patch = mock.patch.object(bench, name, value)
        patch.start()
        self.addCleanup(patch.stop)

    def run_parts(self, *words, **parts):
        self.stays("PARTS", parts)
        said = io.StringIO()
        with mock.patch("sys.argv", ["bench.py", *words]), mock.patch.dict(os.environ, PART=",".join(parts)):
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as end:
                bench.main()
        return end.exception.code, said.getvalue()

    def kept(self):
        if not os.path.exists(self.results):
            return {}
        with open(self.results) as file:
            return json.load(file)["parts"]

    def test_a_part_that_fails_is_named_and_the_others_are_kept(self):
        bench.write({"old": {"machine": {"date": "2026-01-01"}, "rows": []}})
        for error in (ValueError("why"), SystemExit("why")):
            code, said = self.run_parts(first=GOOD, bad=part(error), last=GOOD)
            self.assertEqual(code, 1)
            self.assertEqual(set(self.kept()), {"old", "first", "last"})
            self.assertIn("FAILED: bad", said)
            self.assertIn("kept from 2026-01-01: old", said)

    def test_what_was_measured_is_kept_when_the_run_is_stopped(self):
        with self.assertRaises(KeyboardInterrupt):
            self.run_parts(first=GOOD, stopped=part(KeyboardInterrupt()))
        self.assertEqual(set(self.kept()), {"first"})

    def test_a_run_that_measured_nothing_says_so_and_writes_nothing(self):
        code, said = self.run_parts(gpu=part([]))
        self.assertEqual((code, self.kept()), (0, {}))
        self.assertIn("Nothing was measured, and nothing was written.", said)

    def test_a_check_writes_nothing(self):
        bench.write({"first": {"machine": {"date": "2026-01-01"}, "rows": GOOD()}})
        code, said = self.run_parts("--check", first=GOOD)
        self.assertEqual((code, self.kept()["first"]["machine"]["date"]), (0, "2026-01-01"))
        code, said = self.run_parts("--check", first=part([]))
        self.assertEqual(code, 1)
        self.assertIn("LOST: first, a", said)


class Installing(unittest.TestCase):
    def test_what_venv_and_pip_say_is_shown_when_they_cannot_install(self):
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as work, mock.patch.object(inputs, "WORK", work):
            error = inputs.subprocess.CalledProcessError(1, "venv", "apt install python3-venv", "")
            with mock.patch.object(inputs, "shell", side_effect=error), contextlib.redirect_stdout(said):
                self.assertIsNone(inputs.python())
        self.assertIn("apt install python3-venv", said.getvalue())


class Stages(unittest.TestCase):
    def test_they_are_found_whatever_other_labels_stand_beside_them(self):
        class Site:
            def metrics(self):
                return (
                    'radsort_stage_duration_seconds_sum{site="radsort",stage="decode"} 1.5\n'
                    'radsort_stage_duration_seconds_count{site="radsort",stage="decode"} 3\n'
                )

        self.assertEqual(stages(Site()), {"decode": {"sum": 1.5, "count": 3.0}})


if __name__ == "__main__":
    unittest.main()
