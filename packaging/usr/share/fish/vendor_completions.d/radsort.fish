# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_radsort_global_optspecs
    string join \n h/help V/version
end

function __fish_radsort_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_radsort_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_radsort_using_subcommand
    set -l cmd (__fish_radsort_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c radsort -n "__fish_radsort_needs_command" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_needs_command" -s V -l version -d 'Print version'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "run" -d 'Run the service in the foreground'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "sort" -d 'Sort directories once, and exit'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "status" -d 'Show how the daemon is: model and provider, every drop directory, totals, disks, the last errors'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "query" -d 'Find files by what is known about them, the newest first'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "show" -d 'Show the whole story of one file: when it was seen, settled and decoded, what its header said, all scores, why it is in its folder, which model and provider decided, and what happened to it since'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "check" -d 'Check everything that the daemon needs, by trying it'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "setup" -d 'Give the service what its configuration names'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "reload" -d 'Have the daemon read its configuration and model again, and wait until they are in use'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "quarantine" -d 'List what is in the quarantine and why, or give files back to the drop directories that they came from'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "correct" -d 'Say that a file is of another category than its record says'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "confirm" -d 'Say that files are what their records say'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "labels" -d 'What people have said about files: list it, take it elsewhere, bring it in, and settle what waits'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "audit" -d 'Find out how often the model is right: have a person look at files drawn at random'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "undo" -d 'Take filed files back to where they came from, with the name, mode and time that they had'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "verify" -d 'Check that ledger, index and folders agree. Nothing is changed'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "reindex" -d 'Delete the index and build it again from the ledger, then compare it with the folders'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "retrain" -d 'Fit the model to the site\'s own images'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "evaluate" -d 'Judge a bundle on labelled images, end to end: decoded, classified and decided on as `run` does'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "models" -d 'Keep bundle versions side by side, and choose which one is in use'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "classify" -d 'Predict the category of radiographs without moving them'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "render" -d 'Write the picture that the model gets as a PNG'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "phantom" -d 'Write synthetic full-spine radiographs with known categories'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "demo" -d 'Show the whole main job on synthetic radiographs, in a scratch directory'
complete -c radsort -n "__fish_radsort_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand run" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand sort" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand sort" -l dry-run -d 'Decide only: record and touch nothing'
complete -c radsort -n "__fish_radsort_using_subcommand sort" -l json -d 'Print the summary as one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand sort" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand status" -l interval -d 'Seconds between two looks' -r
complete -c radsort -n "__fish_radsort_using_subcommand status" -l count -d 'End after so many looks' -r
complete -c radsort -n "__fish_radsort_using_subcommand status" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand status" -l json -d 'As one JSON object; times are microseconds since the Unix epoch'
complete -c radsort -n "__fish_radsort_using_subcommand status" -l watch -d 'Again and again: a live view on a terminal, else one line each time'
complete -c radsort -n "__fish_radsort_using_subcommand status" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand query" -l category -d 'Category id, e.g. frontal-fusion: a person\'s label if there is one, else what the model said' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l view -d 'frontal or lateral' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l study -d 'Study Instance UID' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l since -d 'From this time on' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l until -d 'Before this time' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l source -d 'Name of the drop directory that it came through' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l model -d 'Bundle name, version, or both' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l below -d 'Joint confidence of view and category below this, 0 to 1' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l reason -d 'Why it was not filed, e.g. low-confidence, view-conflict, truncated' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l fate -d 'filed, review, other, quarantined, duplicate, conflict or left; what was only observed (action = "observe") counts as what would have become of it' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l label -d 'Whether a person has said what it is: given, pending (waits to be accepted) or none' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l limit -d 'At most so many; a table has 50 unless told otherwise' -r
complete -c radsort -n "__fish_radsort_using_subcommand query" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand query" -l count -d 'Only how many'
complete -c radsort -n "__fish_radsort_using_subcommand query" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand query" -l csv -d 'Comma-separated values with a header line'
complete -c radsort -n "__fish_radsort_using_subcommand query" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand show" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand show" -l json -d 'One JSON object for each file that fits: `file` as in `query --json`, and the ledger\'s records as `history`'
complete -c radsort -n "__fish_radsort_using_subcommand show" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand check" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand check" -l json -d 'One JSON object a line: level, what, message, advice'
complete -c radsort -n "__fish_radsort_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l unit -d 'The service\'s unit, when the configuration\'s name does not tell it' -r
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l user -d 'The service\'s user; for another than the package\'s the drop-ins say so' -r
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l units -d 'Where drop-ins of units go' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l dry-run -d 'Say what would be done, and do nothing'
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l gpu -d 'Also let the service use NVIDIA GPUs (a drop-in of its own)'
complete -c radsort -n "__fish_radsort_using_subcommand setup" -l json -d 'One JSON object a line: state, what, message, commands'
complete -c radsort -n "__fish_radsort_using_subcommand setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand reload" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand reload" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand reload" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "list" -d 'List what is in the quarantine, the newest first, each with its reason'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "release" -d 'Give files back to where they came from'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and not __fish_seen_subcommand_from list release help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from list" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from release" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from release" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "list" -d 'List what is in the quarantine, the newest first, each with its reason'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "release" -d 'Give files back to where they came from'
complete -c radsort -n "__fish_radsort_using_subcommand quarantine; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand correct" -l note -d 'Anything to be kept with the label' -r
complete -c radsort -n "__fish_radsort_using_subcommand correct" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand correct" -l new-category -d 'Also a category that the model has yet to learn (`radsort retrain --add-category`)'
complete -c radsort -n "__fish_radsort_using_subcommand correct" -l json -d 'One JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand correct" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand confirm" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand confirm" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand confirm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "list" -d 'List labels, the newest files first'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "export" -d 'Write labels as CSV: labels that count, one row a file. No patient\'s identity, only pseudonyms and UIDs, and notes as people wrote them. The column `audit` names the audits that a file was drawn for, each with how many files it has: without it labels of origin `audit` promise nothing'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "import" -d 'Read labels from a CSV file with the columns sop_instance_uid and category (`neither` or nothing: it belongs under none), and perhaps person, note, origin (audit, review, correction, adopted, csv or untouched) and time (2026-11-23, "2026-11-23 14:00" or RFC 3339). No file is moved. A label that is there already stays, with its origin, person and time, and so does one that was given after the row\'s time; rows of origin `untouched` are no labels'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "accept" -d 'Labels that wait count from now on'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "reject" -d 'Labels that wait are forgotten; their files stay where they are'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "look" -d 'Look at the library now. Files that were put in, and missing ones, are recorded when two looks have seen them so'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and not __fish_seen_subcommand_from list export import accept reject look help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from list" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from list" -l pending -d 'Only those that wait to be accepted'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from list" -l csv -d 'Comma-separated values with a header line'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from export" -l out -d 'Where to; standard output if not given. An existing file is replaced' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from export" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from export" -l untouched -d 'Also filed files that nobody has judged, with what the model said and origin `untouched`'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from export" -l json -d 'One JSON object a line instead of CSV'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from import" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from import" -l new-category -d 'Also categories that the model has yet to learn (`radsort retrain --add-category`)'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from import" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from accept" -l category -d 'All that wait and say this category, whether the model knows it or not' -r
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from accept" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from accept" -l all -d 'All that wait (accept: only those whose category the model knows)'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from accept" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from accept" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from reject" -l category -d 'All that wait and say this category, whether the model knows it or not' -r
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from reject" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from reject" -l all -d 'All that wait (accept: only those whose category the model knows)'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from reject" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from reject" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from look" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from look" -l json -d 'One JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from look" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "list" -d 'List labels, the newest files first'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "export" -d 'Write labels as CSV: labels that count, one row a file. No patient\'s identity, only pseudonyms and UIDs, and notes as people wrote them. The column `audit` names the audits that a file was drawn for, each with how many files it has: without it labels of origin `audit` promise nothing'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "import" -d 'Read labels from a CSV file with the columns sop_instance_uid and category (`neither` or nothing: it belongs under none), and perhaps person, note, origin (audit, review, correction, adopted, csv or untouched) and time (2026-11-23, "2026-11-23 14:00" or RFC 3339). No file is moved. A label that is there already stays, with its origin, person and time, and so does one that was given after the row\'s time; rows of origin `untouched` are no labels'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "accept" -d 'Labels that wait count from now on'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "reject" -d 'Labels that wait are forgotten; their files stay where they are'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "look" -d 'Look at the library now. Files that were put in, and missing ones, are recorded when two looks have seen them so'
complete -c radsort -n "__fish_radsort_using_subcommand labels; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and not __fish_seen_subcommand_from sample left help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and not __fish_seen_subcommand_from sample left help" -f -a "sample" -d 'Draw files uniformly from everything filed, keep the list, and write a page of pictures to go through'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and not __fish_seen_subcommand_from sample left help" -f -a "left" -d 'Say how much of each audit is still to be judged. One that was given up in the middle promises nothing: people begin with what is easy'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and not __fish_seen_subcommand_from sample left help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -l seed -d 'The same seed draws the same files. Default: drawn at random' -r
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -l out -d 'Where the page goes, as `radsort-audit-LIST.html`' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -l open -d 'Open the page in a browser'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -l json -d 'One JSON object: the list, the page, and each file in the order in which they were drawn'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from sample" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from left" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from left" -l json -d 'One JSON object an audit, with its files that are left'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from left" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "sample" -d 'Draw files uniformly from everything filed, keep the list, and write a page of pictures to go through'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "left" -d 'Say how much of each audit is still to be judged. One that was given up in the middle promises nothing: people begin with what is easy'
complete -c radsort -n "__fish_radsort_using_subcommand audit; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l since -d 'All that were filed from this time on: 2h, 7d, today, 2026-11-23, RFC 3339…' -r
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l model -d 'All that were filed with this bundle: its name, version, or both' -r
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l let-go -d 'Take nothing back: what was given back may be taken again'
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l dry-run -d 'Only say which files would go where'
complete -c radsort -n "__fish_radsort_using_subcommand undo" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand undo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand verify" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand verify" -l digests -d 'Read every file and compare its BLAKE3 digest'
complete -c radsort -n "__fish_radsort_using_subcommand verify" -l json -d 'One JSON object a line: each difference, then a summary'
complete -c radsort -n "__fish_radsort_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand reindex" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand reindex" -l json -d 'As one JSON object: records, the seconds that building took, and differences from the folders by kind'
complete -c radsort -n "__fish_radsort_using_subcommand reindex" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l bundle -d 'Start from this bundle instead of the one in use' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l from -d 'A folder with a folder for each category (by id or folder name), as people have left them; not the library, where lies what nobody has looked at' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l labels -d 'A list: CSV with the columns category, and path or sop_instance_uid; perhaps patient (a Patient ID or pseudonym, kept as a pseudonym), origin, audit (without it labels of origin audit promise nothing), confidence, digest, time' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l classifier -d 'Which classifiers: frontal, lateral, view (their ids in the bundle), or all' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l mode -d 'head: the last layer on frozen features; full: all weights [default: head; full with --init]' -r -f -a "head\t'The last layer'
full\t'All weights'"
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l add-category -d 'A category that the bundle does not know yet, e.g. frontal-halo:frontal (repeatable)' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l remove-category -d 'A category that the new bundle shall not have any more (repeatable)' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l rename-category -d 'Another id (and folder) for a category, e.g. frontal-tether=frontal-vbt (repeatable)' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l init -d 'Put a new network in the place of the old one: efficientnet-b0 to efficientnet-b7' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l weights -d 'Its weights: a safetensors file with the names of torchvision or timm' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l weights-kind -d 'Whose weights they are: timm\'s tf_efficientnet pads and normalises otherwise than its efficientnet, and the file does not tell' -r -f -a "torchvision\t'torchvision\'s'
timm\t'timm\'s `efficientnet_b0` and the like'
timm-tf\t'timm\'s `tf_efficientnet_b0` and the like, which came from TensorFlow'"
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l channels -d 'Channels of its input, 1 or 3; 1 adds up the three of given weights [default: 3 with weights, else 1]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l input-size -d 'Rows and columns of its input, e.g. 320x192 [default: the published square]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l hidden -d 'head: neurons of a hidden layer before the last one; 0: none [default: 0]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l epochs -d 'full: how often each image is seen, at most [default: 10]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l batch -d 'full: images a step; halved by itself where memory is short [default: 16]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l learning-rate -d 'full: the highest learning rate [default: 0.0005]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l backbone-rate -d 'full: the part of it that everything before the last layer gets [default: 0.3; 1 with --init and no weights]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l patience -d 'full: end after so many epochs without a lower validation loss; 0: never [default: 5]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l device -d 'full: where to compute' -r -f -a "auto\t'The fastest that this program was built with and that works; says which, and why'
cpu\t'The processor'
vulkan\t'A GPU through Vulkan'
cuda\t'An NVIDIA GPU through CUDA'"
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l seed -d 'Of order, augmentation, random weights, and of who is drawn as golden' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l as-version -d 'The new bundle\'s version [default: that of the old one, and when it was begun]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l out -d 'Write the bundle into this folder instead of keeping it beside the others' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l target -d 'The part of what is filed automatically that may be wrong. The bundle carries it as its promise: thresholds are raised for it, and categories with fewer than 100 certifying images go to review [default: none; 0.005 in the report]' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l near -d 'Radiographs of other things: how many would be filed is reported, nothing is fitted; phantoms of chests, necks and lying patients are always tried' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l far -d 'DICOM files of anything else; noise, black, plain grey, stripes and photograph-like pictures are always tried' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l trust-untouched -d 'Learn also from images that nobody has looked at, where the model was at least so sure [without a value: 0.99]; nothing is ever calibrated or judged on them' -r
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l promote -d 'Put the new bundle to use when it is better than the one in use on golden images' -r -f -a "never\t'By `radsort models promote`'
if-better\t'At once, when golden images say that it is better'"
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l complete -d 'The list leaves no image of its set out, and each was judged for it'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l freeze-norms -d 'full: keep batch normalisation\'s statistics as they are'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l leave-out-copies -d 'Leave images out that are nearly the same as one of another patient on a side that judges'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l few-patients -d 'Train also when classes have too few patients to be judged'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l resume -d 'Go on with the training that was interrupted, as it was told then'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l dry-run -d 'Say what would be learned from, how long it takes and how much memory, and stop'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -l json -d 'One JSON object at the end; with --dry-run: what would be done'
complete -c radsort -n "__fish_radsort_using_subcommand retrain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l bundle -d 'The bundle; default: that in use by the configuration, else the shipped one' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l from -d 'A folder with a folder for each category (by id or folder name), as people have left them; not the library, where lies what nobody has looked at' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l labels -d 'A list: CSV with the columns category, and path or sop_instance_uid; perhaps patient (a Patient ID or pseudonym, kept as a pseudonym), origin, audit (without it labels of origin audit promise nothing), confidence, digest, time' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l target -d 'The part of what is filed automatically that may be wrong, for the promise' -r
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l near -d 'Radiographs of other things: how many would be filed is reported, nothing is fitted; phantoms of chests, necks and lying patients are always tried' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l far -d 'DICOM files of anything else; noise, black, plain grey, stripes and photograph-like pictures are always tried' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l report -d 'Write a page with figures, curves and the worst mistakes' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l certified -d 'When the promise is kept: write the bundle with it into this new folder, for `radsort models import`. Its own thresholds count, not those of a configuration' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l as-version -d 'The version of the bundle with the promise [default: that of the bundle, and the time]' -r
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l complete -d 'The list leaves no image of its set out, and each was judged for it: its error rate says something about all files'
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l unseen -d 'With --certified and without a configuration, whose state knows: none of these patients was learned from, says who asks'
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -l json -d 'One JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand evaluate" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "list" -d 'List the bundles with what they were found to be worth'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "show" -d 'Show everything that a bundle says about itself'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "promote" -d 'Try a bundle, then use it from now on'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "rollback" -d 'Go back to the bundle that was in use before'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "import" -d 'Keep a bundle that comes from elsewhere (its folder, or bare ONNX files); it is not used before it is promoted'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "prune" -d 'Remove bundles that nobody needs: what is in use stays, and what an interrupted training goes on from'
complete -c radsort -n "__fish_radsort_using_subcommand models; and not __fish_seen_subcommand_from list show promote rollback import prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from list" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from list" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from show" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from show" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from promote" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from promote" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from promote" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from rollback" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from rollback" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from rollback" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l classes -d 'ONNX: the categories and their views in the order of the logits, e.g. pre:frontal,post:frontal; once a file' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l view -d 'ONNX: a network that tells the view; without one the header alone tells it' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l view-classes -d 'ONNX: the view network\'s classes in the order of its logits' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l name -d 'ONNX: the bundle\'s name [default: the first file\'s]' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l version -d 'ONNX: the bundle\'s version' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l licence -d 'ONNX: the licence of the weights' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l mean -d 'ONNX: subtracted from grey values from 0 to 1; one for each channel, or one for all' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l std -d 'ONNX: divided by' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l input-size -d 'ONNX: rows and columns of the input where the graph leaves them open, e.g. 320x192' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l threshold -d 'ONNX: the least confidence at which a file is filed without a person looking' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from prune" -l keep -d 'How many of the last ones in use stay, and how many of the newest that never were' -r
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from prune" -l config -d 'The configuration: its `[state]` and `[control]` say where the daemon and its records are. Default: `$RADSORT_CONFIG`, else /etc/radsort/radsort.toml' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from prune" -l dry-run -d 'Only say what would be removed, and why the others stay'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from prune" -l json -d 'As one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the bundles with what they were found to be worth'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "show" -d 'Show everything that a bundle says about itself'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "promote" -d 'Try a bundle, then use it from now on'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "rollback" -d 'Go back to the bundle that was in use before'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "import" -d 'Keep a bundle that comes from elsewhere (its folder, or bare ONNX files); it is not used before it is promoted'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove bundles that nobody needs: what is in use stays, and what an interrupted training goes on from'
complete -c radsort -n "__fish_radsort_using_subcommand models; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand classify" -l model -d 'The bundle; default: that of the configuration, else the shipped one' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand classify" -l config -d 'Take bundle, thresholds, ONNX Runtime, device and decoder limits from this configuration' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand classify" -l json -d 'One JSON object a line'
complete -c radsort -n "__fish_radsort_using_subcommand classify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand render" -l out -d 'Where the PNG goes; an existing file is replaced' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand render" -l size -d 'Longest side in pixels; the aspect ratio is kept' -r
complete -c radsort -n "__fish_radsort_using_subcommand render" -l model -d 'Exactly as this bundle\'s classifiers get it; several inputs become several files, numbered from the second on' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand render" -l 16bit -d '16 bits a pixel instead of 8'
complete -c radsort -n "__fish_radsort_using_subcommand render" -l json -d 'Say as one JSON object a picture what was written'
complete -c radsort -n "__fish_radsort_using_subcommand render" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l out -d 'Directory for the images and labels.csv; made if missing' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l count -d 'How many images, patients with several each' -r
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l seed -d 'Same seed, same images' -r
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l syntax -d 'Transfer syntax: mixed, explicit, implicit, big-endian, deflated, rle, jpeg, jpeg-extended, jpeg-lossless, jpegls, j2k or j2k-lossless' -r
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l layout -d 'All files in one directory, or one directory a category' -r -f -a "flat\t'All in one directory'
by-category\t'A directory a category; `outside` for those that belong to neither view'"
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l imbalance -d 'How often each category occurs' -r -f -a "paper\t'As in Mulford et al. 2024: 7777 frontal to 5621 lateral images, most without a device, few with a rare one'
even\t'Each category as often as any other'"
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l difficulty -d 'How clean the images are' -r -f -a "normal\t'As a careful department takes them'
hard\t'Metal glare, underexposure, odd crops, partial spines, overlapping devices'"
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l size -d 'Columns and rows, such as 500x750 [default: each detector\'s own, 2000–3000 × 3000–4300]' -r
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l outside -d 'Share of images that show no full spine: chest, pelvis, hand, calibration shots' -r
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l outside-kind -d 'What those images show instead, one or several with commas between' -r -f -a "chest\t'The chest, taken standing'
cervical\t'The cervical spine alone'
supine\t'A lying patient\'s lower spine, on a table'
noise\t'White noise'
black\t'Nothing but black'
photograph-like\t'Things over each other, lit from a side, as on photographs'"
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l sheet -d 'Also write a contact sheet of thumbnails by category to this PNG' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -l json -d 'Print a summary as one JSON object'
complete -c radsort -n "__fish_radsort_using_subcommand phantom" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand demo" -l count -d 'How many phantoms to drop' -r
complete -c radsort -n "__fish_radsort_using_subcommand demo" -l seed -d 'Another seed gives other phantoms' -r
complete -c radsort -n "__fish_radsort_using_subcommand demo" -l dir -d 'Work in this directory (made if missing, must be empty) instead of a new one below the temporary directory' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand demo" -l model -d 'The bundle to classify with, instead of the shipped one' -r -F
complete -c radsort -n "__fish_radsort_using_subcommand demo" -l json -d 'The outcome as one JSON object on standard output; the story goes to standard error'
complete -c radsort -n "__fish_radsort_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "run" -d 'Run the service in the foreground'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "sort" -d 'Sort directories once, and exit'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "status" -d 'Show how the daemon is: model and provider, every drop directory, totals, disks, the last errors'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "query" -d 'Find files by what is known about them, the newest first'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "show" -d 'Show the whole story of one file: when it was seen, settled and decoded, what its header said, all scores, why it is in its folder, which model and provider decided, and what happened to it since'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "check" -d 'Check everything that the daemon needs, by trying it'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "setup" -d 'Give the service what its configuration names'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "reload" -d 'Have the daemon read its configuration and model again, and wait until they are in use'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "quarantine" -d 'List what is in the quarantine and why, or give files back to the drop directories that they came from'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "correct" -d 'Say that a file is of another category than its record says'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "confirm" -d 'Say that files are what their records say'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "labels" -d 'What people have said about files: list it, take it elsewhere, bring it in, and settle what waits'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "audit" -d 'Find out how often the model is right: have a person look at files drawn at random'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "undo" -d 'Take filed files back to where they came from, with the name, mode and time that they had'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "verify" -d 'Check that ledger, index and folders agree. Nothing is changed'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "reindex" -d 'Delete the index and build it again from the ledger, then compare it with the folders'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "retrain" -d 'Fit the model to the site\'s own images'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "evaluate" -d 'Judge a bundle on labelled images, end to end: decoded, classified and decided on as `run` does'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "models" -d 'Keep bundle versions side by side, and choose which one is in use'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "classify" -d 'Predict the category of radiographs without moving them'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "render" -d 'Write the picture that the model gets as a PNG'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "phantom" -d 'Write synthetic full-spine radiographs with known categories'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "demo" -d 'Show the whole main job on synthetic radiographs, in a scratch directory'
complete -c radsort -n "__fish_radsort_using_subcommand help; and not __fish_seen_subcommand_from run sort status query show check setup reload quarantine correct confirm labels audit undo verify reindex retrain evaluate models classify render phantom demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from quarantine" -f -a "list" -d 'List what is in the quarantine, the newest first, each with its reason'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from quarantine" -f -a "release" -d 'Give files back to where they came from'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "list" -d 'List labels, the newest files first'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "export" -d 'Write labels as CSV: labels that count, one row a file. No patient\'s identity, only pseudonyms and UIDs, and notes as people wrote them. The column `audit` names the audits that a file was drawn for, each with how many files it has: without it labels of origin `audit` promise nothing'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "import" -d 'Read labels from a CSV file with the columns sop_instance_uid and category (`neither` or nothing: it belongs under none), and perhaps person, note, origin (audit, review, correction, adopted, csv or untouched) and time (2026-11-23, "2026-11-23 14:00" or RFC 3339). No file is moved. A label that is there already stays, with its origin, person and time, and so does one that was given after the row\'s time; rows of origin `untouched` are no labels'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "accept" -d 'Labels that wait count from now on'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "reject" -d 'Labels that wait are forgotten; their files stay where they are'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from labels" -f -a "look" -d 'Look at the library now. Files that were put in, and missing ones, are recorded when two looks have seen them so'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "sample" -d 'Draw files uniformly from everything filed, keep the list, and write a page of pictures to go through'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from audit" -f -a "left" -d 'Say how much of each audit is still to be judged. One that was given up in the middle promises nothing: people begin with what is easy'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "list" -d 'List the bundles with what they were found to be worth'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "show" -d 'Show everything that a bundle says about itself'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "promote" -d 'Try a bundle, then use it from now on'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "rollback" -d 'Go back to the bundle that was in use before'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "import" -d 'Keep a bundle that comes from elsewhere (its folder, or bare ONNX files); it is not used before it is promoted'
complete -c radsort -n "__fish_radsort_using_subcommand help; and __fish_seen_subcommand_from models" -f -a "prune" -d 'Remove bundles that nobody needs: what is in use stays, and what an interrupted training goes on from'
