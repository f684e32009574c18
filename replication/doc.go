// Package replication is PSYNC between two logs: Redis's own wire, in both roles. It knows the handshake, the framing of
// snapshots, acknowledgements and time limits; what data are, and how a snapshot is made or taken over, it asks of a Source
// and a Sink.
//
// # Primary
//
// A connection speaks REPLCONF like any other client's commands; its Request notes what it says. At PSYNC or SYNC the server
// takes the connection out of its event loop and hands it over:
//
//	var q replication.Request                       // one for each connection
//	reply, ok := q.Replconf(args[1:])               // "" : do not reply
//	refuse := q.Psync(args[1:])                     // or q.Sync()
//	promote, refuse := q.Admit(replication.Standing{Replica: …, LinkUp: replica.State() == replication.Connected, ID: …})
//	if promote { … }                                // PSYNC … FAILOVER: become primary, then go on; q is judged by the new lineage
//	go primary.Serve(conn, rest, q)                 // owns conn; returns when the link has ended
//
//	primary := replication.NewPrimary(replication.PrimaryOptions{Source: …, NewSpool: replication.NewFileSpool(dir), Logger: …})
//	primary.WaitAcks(ctx, off, n, false)            // WAIT; true: WAITAOF's replicas
//	primary.GoodReplicas()                          // min-replicas-to-write
//	primary.AckedBy(n, true)                        // what n replicas have on disk, with OnAck to hear of changes
//	primary.Replicas(), primary.Stats()             // INFO, ROLE
//	primary.SetQuiet(true)                          // FAILOVER: no PINGs while the target catches up
//	primary.Disconnect()                            // after the id has changed (promotion): replicas learn it by +CONTINUE
//	primary.Pause(); …; primary.Resume()            // around replacing the log; a Replica with Downstream does it itself
//
// Decide judges a request by the whole lineage; it is pure. A link that continues reads the log from the offset asked for
// and writes what it reads: only durable bytes (W5), from disk or from the one tail that all readers share. What a link holds in
// memory is that one buffer (M1); a replica that does not read blocks its own goroutine in a write and nothing else. It is
// dropped for silence beyond repl-timeout, never for being behind.
//
// A full sync is a Snapshot at C and the log from C (R2): `$EOF:` framing if the replica knows it, and then nothing more until its first
// acknowledgement; else, or if the configuration says so, `$length` with a spooled file. Any number of full syncs run
// at once, each with its own view. The log is pinned from C on (W6) until the replica has acknowledged what there was when its
// stream began.
//
// Between two of this kind the snapshot is the store's files as they are (tables.go): a TableSource offers a list, the replica, whose
// Loader is a TableLoader, says what it has of them from earlier links, and only the rest is sent. PrimaryConfig's SyncBytesPerSecond bounds
// what all full syncs send together, of either kind.
//
// A replica that stands on our history but far behind is given a snapshot where that is clearly sooner (estimate.go), by rates
// that its acknowledgements have told. One that gives its name is told to Slots, which keep the log for it while it is away.
//
// # Replica
//
//	replica := replication.NewReplica(replication.ReplicaOptions{Sink: …, Dial: …, Downstream: primary, Logger: …})
//	replica.Start(replication.Target{Host: h, Port: p})   // REPLICAOF; the sink is a replica's already
//	replica.Stop()                                        // REPLICAOF NO ONE: then promote, then primary.Disconnect()
//	replica.Status()                                      // INFO, ROLE
//
// It asks with the newest id under which it has bytes: one that was begun at a start, and under which nothing was
// written, is unknown to everybody else. +CONTINUE with another id is adopted before a byte is applied. Only whole records
// are applied and logged; what a cut leaves of one is forgotten and asked for again, so that the position is always a
// record's end (W2). A full sync goes into a Loader beside the old data, which Commit replaces in one step.
//
// A primary that does not know PSYNC gets SYNC. Its history then has an id that nobody knows, and every link is a full sync.
//
// # Goroutines and locks
//
// NewPrimary starts the ticker, which Close ends. Serve runs in its caller's goroutine and starts one that reads acknowledgements,
// and one that prepares a snapshot; it returns after both. Start starts the goroutine that connects, reads and applies, and one for
// ticks; a link that is up has two more, which write and wait for the disk. Stop returns after all of them.
//
// No lock of this package is held while a Source, Sink, Loader, Pin or hook is called (but for Source.Log, which must not wait),
// except that Start and Stop wait for each other, and that Slots hears of the names one call after another.
package replication
