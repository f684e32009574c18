package server

import (
	"strings"
)

// helpTexts are what the HELP subcommands print, below a first line that all share: a form of the subcommand, then its
// explanation, which is indented.
var helpTexts = map[string][][2]string{
	"client": {
		{"CACHING <YES|NO>", "Whether the keys of the next command are tracked, in mode OPTIN or OPTOUT."},
		{"GETNAME", "The name of this connection."},
		{"GETREDIR", "The id of the connection that gets this one's invalidation messages; -1 = none."},
		{"ID", "The id of this connection."},
		{"INFO", "A line that describes this connection."},
		{"KILL <ip:port>", "Close the connection from an address."},
		{"KILL <option> <value> [<option> <value> ...]", "Close connections that match all of: ID <id>, TYPE <normal|master|replica|pubsub>, USER <name>, ADDR <ip:port>, LADDR <ip:port>, MAXAGE <seconds>; SKIPME <yes|no> says whether this one is spared."},
		{"LIST [TYPE <normal|master|replica|pubsub>] [ID <id> ...]", "A line for each connection."},
		{"NO-EVICT <ON|OFF>", "Exempt this connection from eviction."},
		{"NO-TOUCH <ON|OFF>", "Leave access times alone."},
		{"PAUSE <timeout-ms> [WRITE|ALL]", "Hold commands back for a time: all, or only those that write."},
		{"REPLY <ON|OFF|SKIP>", "Whether replies are sent: yes, no, not for the next command."},
		{"SETINFO <LIB-NAME|LIB-VER> <value>", "Name the client library."},
		{"SETNAME <name>", "Name this connection."},
		{"TRACKING <ON|OFF> [REDIRECT <id>] [BCAST] [PREFIX <prefix> ...] [OPTIN] [OPTOUT] [NOLOOP]", "Tell this connection, or another, of changes of keys that it has read, or of all with a prefix."},
		{"TRACKINGINFO", "Whether keys are tracked for client-side caching, and how."},
		{"UNBLOCK <id> [TIMEOUT|ERROR]", "End the wait of a blocked client."},
		{"UNPAUSE", "End a pause."},
	},
	"config": {
		{"GET <pattern> [<pattern> ...]", "Directives whose names match, and their values."},
		{"SET <directive> <value> [<directive> <value> ...]", "Change directives: all of them, or none if one is refused."},
		{"RESETSTAT", "Begin the statistics anew."},
		{"REWRITE", "Bring the configuration file up to date."},
	},
	"command": {
		{"(no subcommand)", "Describe all commands."},
		{"COUNT", "How many commands there are."},
		{"DOCS [<command> ...]", "Documentation of some or all commands."},
		{"GETKEYS <command> [<arg> ...]", "The keys among the arguments."},
		{"GETKEYSANDFLAGS <command> [<arg> ...]", "The same with what is done to each key."},
		{"INFO [<command> ...]", "Description of some or all commands."},
		{"LIST [FILTERBY <MODULE|ACLCAT|PATTERN> <value>]", "Names of commands."},
	},
	"slowlog": {
		{"GET [<count>]", "The newest entries (10 unless told; -1 = all): id, time, microseconds, command, client, its name."},
		{"LEN", "How many entries are kept."},
		{"RESET", "Forget them."},
	},
	"latency": {
		{"DOCTOR", "A report in words."},
		{"GRAPH <event>", "The samples of an event as a graph of letters."},
		{"HISTOGRAM [<command> ...]", "How the times of commands are distributed."},
		{"HISTORY <event>", "Time and latency of the samples of an event."},
		{"LATEST", "The newest and the worst latency of each event."},
		{"RESET [<event> ...]", "Forget some or all events."},
	},
	"memory": {
		{"DOCTOR", "A report in words."},
		{"MALLOC-STATS", "Figures of the allocator."},
		{"PURGE", "Give free memory back to the operating system."},
		{"STATS", "Figures of the use of memory."},
		{"USAGE <key> [SAMPLES <count>]", "Bytes that a key takes."},
	},
	"acl": {
		{"CAT [<category>]", "Categories of commands, or the commands of one."},
		{"LIST", "The rules of the users."},
		{"USERS", "The names of the users."},
		{"WHOAMI", "The user of this connection."},
	},
	"holdfast": {
		{"LOG", "How far the log reaches, since when, what keeps it, and the replication ids that it has had."},
		{"LOG OFFSET <offset>", "When the byte behind this offset was written, in unix milliseconds."},
		{"LOG TIME <unix-ms>", "The offset from which on the log was written at this time or later."},
		{"PSYNC-EXPLAIN <offset> [<replication-id>]", "How PSYNC with this offset would be answered, why, and how long replay and snapshot would take."},
		{"MARK", "Put a mark into the stream, at which this server and its replicas can be compared (holdfast verify)."},
		{"MARKED <token> <milliseconds>", "Wait for a mark: its offset, the replication id, and the databases."},
		{"DIGEST <token> <db> <prefix> <depth>", "Digests of the parts of a range of keys at a mark."},
		{"KEYS <token> <db> <prefix> <after> <count>", "The keys of a range at a mark."},
		{"UNMARK <token>", "Drop a mark."},
		{"SLOTS [LIST]", "The slots that keep the log for named replicas."},
		{"SLOTS CREATE <name> [<offset>]", "Keep the log for a replica from an offset on, by default from the durable end."},
		{"SLOTS DROP <name>", "Keep it no longer."},
	},
	"pubsub": {
		{"CHANNELS [<pattern>]", "Channels that have subscribers, those of patterns not counted."},
		{"NUMPAT", "How many patterns have subscribers."},
		{"NUMSUB [<channel> ...]", "How many subscribers channels have, those of patterns not counted."},
		{"SHARDCHANNELS [<pattern>]", "Shard channels that have subscribers."},
		{"SHARDNUMSUB [<shardchannel> ...]", "How many subscribers shard channels have."},
	},
	"debug": {
		{"CHECKPOINT", "Take a checkpoint and wait for it."},
		{"PLANT <command> [<arg> ...]", "Run a write here and nowhere else: a difference for holdfast verify to find."},
		{"DIGEST", "A hash of all data."},
		{"DIGEST-VALUE <key> [<key> ...]", "Hashes of the values of keys."},
		{"OBJECT <key>", "How a key is stored."},
		{"RELOAD [NOSAVE]", "Take a checkpoint, forget memory, recover; NOSAVE = without the checkpoint."},
		{"SET-ACTIVE-EXPIRE <0|1>", "Whether expired keys are looked for."},
		{"SLEEP <seconds>", "Hold every command back for a time."},
		{"UNLOAD", "Take all unchanged keys out of memory."},
	},
}

// cmdHelp prints the help of a container. Its name is the command's first word.
func (s *session) cmdHelp(args [][]byte) {
	name := strings.ToLower(string(args[0]))
	if spec := s.srv.names.lookup(args[0]); spec != nil {
		name = spec.Name
	}
	entries := helpTexts[name]
	w := s.conn.Out()
	w.Array(2*len(entries) + 3)
	w.Simple(strings.ToUpper(name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, e := range entries {
		w.Simple(e[0])
		w.Simple("    " + e[1])
	}
	w.Simple("HELP")
	w.Simple("    Prints this help.")
}
