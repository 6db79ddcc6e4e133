"""The tail: returns every complete record of Qlik's log files exactly once, whatever happens to the files.

A *log file* (`logfile.LogFile`) is the content that a writer puts into one file between two rotations, regardless of
its folder and name. A file that is truncated or rewritten in place is another log file from then on. It is recognised
by its *fingerprint* (`fingerprint`): hashes of its first bytes and of the bytes before the offset. Names, times and
file numbers only narrow the search. What must survive a restart is its *checkpoint* (`checkpoint`), saved in one
transaction with what was counted of it.

Its life cycle; every step is a method of `tracker.Tracker`, under the lock of `table.FileTable`:

            begin                      finish (quiet for 30 s)
    (new) ─────────▶ live ──leave──▶ left ───────────────┐
                     ▲ ▲              │ renamed, named    ▼
                     │ └───renamed────┤                  final ──forget──▶ (forgotten)
               adopt │                ▼       finish      ▲
                     │             rotated ───────────────┘
    (saved) ─▶ missing ───adopt──────▶▲  begin_rotated: (new) ─▶ rotated
                 ▲  │
         release │  └─two complete searches─▶ lost ──forget──▶ (forgotten)

    live     it is at a matching path
    left     it was renamed or removed; it is read through its open handle, its new name is not known
    rotated  its new name, or its place in the archive, is known; it is read to its end there
    final    all of it was counted, and nothing more can be appended
    missing  it was saved or released, and it is not known where it is
    lost     it was given up; this counts as a loss if it may have contained something unread

A missing, final or lost file is adopted again if its content is found: nothing counts twice, and reading continues.

The modules, from the bottom up; none accesses the tables of another:

    fingerprint, checkpoint, batch   data: what identifies a file, what is saved, what one step found
    cursor                           one open file: from bytes to records, and the checkpoint after them
    logfile                          one file: its state, checkpoint and cursor
    merge                            the records of several files in the order of their times
    table                            the only owner of one log's files, shared by the tails of several roots
    unreadable                       what cannot be read, logged once
    tracker                          the files of one tail: handles, paths, and the transitions between states
    listing                          folders, and what is history when they are first listed
    copies, discovery, rotation      which file each path is: adopt a known one, wait, or begin a new one
    tail                             poll, merge, finish: the batches of one log below one root
    reader                           the thread of one root, which drives its tails
"""
