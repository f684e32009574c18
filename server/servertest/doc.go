// Package servertest compares this server with a real redis-server, reply by reply.
//
// Two things drive both: golden scripts, one file for each subject in server/command/testdata, and streams of random
// commands. A reply is compared as the bytes that came over the wire; only where Redis promises no order or draws at random
// a rule says what must agree instead (rules.go). The scripts run a second time on our side with a checkpoint and an unload
// after each command: nothing that is read may depend on where the data is (K1).
//
// # Scripts
//
// The first line is a comment with the sentence that says what the script shows. Each other line is empty, a comment ("# …"),
// a directive ("#! …"), a line of expectation ("> …", "2> …", "3> …"), or a command, quoted as in redis-cli. A command
// prefixed with "@2 " goes over a second connection; "@1 wait" reads the reply that the first one still owes.
//
//	#! proto 3               the script runs in this protocol only
//	#! unordered             the next reply is a multiset (an array of pairs: unordered pairs)
//	#! random RULE           the next replies need not be equal but agree by RULE: kind, length, near N (integers that differ
//	                         by at most N), of A B … (both draw from these), each-of A B … (so do all their elements)
//	#! blocks                the next command is sent and waits in the server: its reply is read by "wait"
//	#! only-holdfast         the next command is sent to us only; lines "> " after it are its reply, a line of RESP each
//	                         ("2> " and "3> " where the protocols differ)
//	#! holdfast VERB         on our side only: checkpoint; unload; crash (cut the power, start again); recover (stop in
//	                         order, start again); time +5s (the clock jumps)
package servertest
