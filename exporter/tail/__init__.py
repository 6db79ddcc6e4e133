"""The tail: every complete record of Qlik's log files, handed over once, whatever happens to the files.

A *log file* (`logfile.LogFile`) is the content that a writer puts into one file between two rotations, wherever it
lies and whatever its name. A file that is truncated or rewritten in place is another log file from then on. It is
recognized by its *fingerprint* (`fingerprint`): hashes of its first bytes and of the bytes before the offset. Names,
times and file numbers only narrow the search. What must survive a restart is its *checkpoint* (`checkpoint`), saved in
one transaction with what was counted of it.

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

    live     a matching path stands for it
    left     its path was taken from it, or removed; it is read on through its handle, its new name is not known
    rotated  its new name, or its place in the archive, is known; it is read to its end there
    final    all of it was counted, and nothing more can come
    missing  it was saved, or let go, and it is not known where it is
    lost     it was given up; that counts as a loss if something unread may have been in it

A missing, final or lost file is adopted again where its content is found: nothing counts twice, and reading goes on.

The rooms, from the bottom up; none reaches into another's tables:

    fingerprint, checkpoint, batch   data: what tells a file, what is saved, what one step found
    cursor                           one open file: bytes become records, the checkpoint moves behind them
    logfile                          one file: its state, checkpoint and cursor
    merge                            the records of several files in the order of their times
    table                            the sole owner of one log's files, shared by the tails of several roots
    unreadable                         what cannot be read, told once
    tracker                          what one tail holds: handles, paths, and the steps between the states
    listing                          folders, and what is history when they are first listed
    copies, discovery, rotation      which file each path is: adopt a known one, wait, or begin a new one
    tail                             poll, merge, finish: the batches of one log below one root
    reader                           the thread of one root, that drives its tails
"""
