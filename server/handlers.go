package server

// sessionHandlers maps the full name of each command that has no handler in the command table to what runs it. To add
// one: its row goes to server/command/session_specs.go, its function to the file of its family, its name here.
func sessionHandlers() map[string]sessionHandler {
	h := map[string]sessionHandler{
		"auth":   plain(anywhere, (*session).cmdAuth),
		"hello":  plain(anywhere, (*session).cmdHello),
		"quit":   plain(anywhere, (*session).cmdQuit),
		"reset":  plain(anywhere, (*session).cmdReset),
		"select": plain(anywhere, (*session).cmdSelect),

		"multi":   plain(anywhere, (*session).cmdMulti),
		"exec":    {run: (*session).cmdExec, mode: anywhere},
		"discard": plain(anywhere, (*session).cmdDiscard),
		"watch":   plain(anywhere, (*session).cmdWatch),
		"unwatch": plain(anywhere, (*session).cmdUnwatch),

		"client|caching":      plain(anywhere, (*session).cmdClientCaching),
		"client|getname":      plain(anywhere, (*session).cmdClientGetName),
		"client|getredir":     plain(anywhere, (*session).cmdClientGetRedir),
		"client|id":           plain(anywhere, (*session).cmdClientID),
		"client|info":         plain(anywhere, (*session).cmdClientInfo),
		"client|kill":         plain(anywhere, (*session).cmdClientKill),
		"client|list":         plain(anywhere, (*session).cmdClientList),
		"client|no-evict":     plain(anywhere, (*session).cmdClientNoEvict),
		"client|no-touch":     plain(anywhere, (*session).cmdClientNoTouch),
		"client|pause":        plain(anywhere, (*session).cmdClientPause),
		"client|reply":        plain(anywhere, (*session).cmdClientReply),
		"client|setinfo":      plain(anywhere, (*session).cmdClientSetInfo),
		"client|setname":      plain(anywhere, (*session).cmdClientSetName),
		"client|tracking":     plain(anywhere, (*session).cmdClientTracking),
		"client|trackinginfo": plain(anywhere, (*session).cmdClientTrackingInfo),
		"client|unblock":      plain(anywhere, (*session).cmdClientUnblock),
		"client|unpause":      plain(anywhere, (*session).cmdClientUnpause),

		"subscribe":            {run: (*session).cmdSubscribe, mode: anywhere},
		"psubscribe":           {run: (*session).cmdSubscribe, mode: anywhere},
		"ssubscribe":           {run: (*session).cmdSubscribe, mode: anywhere},
		"unsubscribe":          {run: (*session).cmdUnsubscribe, mode: anywhere},
		"punsubscribe":         {run: (*session).cmdUnsubscribe, mode: anywhere},
		"sunsubscribe":         {run: (*session).cmdUnsubscribe, mode: anywhere},
		"publish":              {run: (*session).cmdPublish, mode: anywhere},
		"spublish":             {run: (*session).cmdPublish, mode: anywhere},
		"pubsub|channels":      {run: (*session).cmdPubsubNames, mode: anywhere},
		"pubsub|shardchannels": {run: (*session).cmdPubsubNames, mode: anywhere},
		"pubsub|numsub":        {run: (*session).cmdPubsubNumSub, mode: anywhere},
		"pubsub|shardnumsub":   {run: (*session).cmdPubsubNumSub, mode: anywhere},
		"pubsub|numpat":        plain(anywhere, (*session).cmdPubsubNumPat),

		"acl|cat":    plain(anywhere, (*session).cmdACLCat),
		"acl|list":   plain(anywhere, (*session).cmdACLList),
		"acl|users":  plain(anywhere, (*session).cmdACLUsers),
		"acl|whoami": plain(anywhere, (*session).cmdACLWhoAmI),

		"command":                 plain(anywhere, (*session).cmdCommand),
		"command|count":           plain(anywhere, (*session).cmdCommandCount),
		"command|docs":            plain(anywhere, (*session).cmdCommandDocs),
		"command|getkeys":         plain(anywhere, (*session).cmdCommandGetKeys),
		"command|getkeysandflags": plain(anywhere, (*session).cmdCommandGetKeysAndFlags),
		"command|info":            plain(anywhere, (*session).cmdCommandInfo),
		"command|list":            plain(anywhere, (*session).cmdCommandList),

		"config|get":       plain(anywhere, (*session).cmdConfigGet),
		"config|set":       plain(waits, (*session).cmdConfigSet).within(liveConfigSet),
		"config|resetstat": plain(unlocked, (*session).cmdConfigResetStat).within(always),
		"config|rewrite":   plain(waits, (*session).cmdConfigRewrite),

		"info":    sessionHandler{run: (*session).cmdInfo, mode: unlocked}.within(always),
		"role":    plain(anywhere, (*session).cmdRole),
		"monitor": plain(anywhere, (*session).cmdMonitor),
		"lolwut":  plain(anywhere, (*session).cmdLolwut),
		"debug":   plain(waits, (*session).cmdDebug).within(debugInside),

		"save":         plain(waits, (*session).cmdSave),
		"bgsave":       plain(anywhere, (*session).cmdBgSave),
		"bgrewriteaof": plain(anywhere, (*session).cmdBgRewriteAOF),
		"lastsave":     plain(anywhere, (*session).cmdLastSave),
		"shutdown":     plain(waits, (*session).cmdShutdown),

		"replicaof": plain(waits, (*session).cmdReplicaOf),
		"slaveof":   plain(waits, (*session).cmdReplicaOf),
		"failover":  plain(waits, (*session).cmdFailover),
		"replconf":  plain(anywhere, (*session).cmdReplconf),
		"psync":     plain(waits, (*session).cmdPsync),
		"sync":      plain(waits, (*session).cmdSync),
		"wait":      plain(waits, (*session).cmdWait).within(always),
		"waitaof":   plain(waits, (*session).cmdWaitAOF).within(always),

		"slowlog|get":   plain(anywhere, (*session).cmdSlowlogGet),
		"slowlog|len":   plain(anywhere, (*session).cmdSlowlogLen),
		"slowlog|reset": plain(anywhere, (*session).cmdSlowlogReset),

		"latency|doctor":    plain(unlocked, (*session).cmdLatencyDoctor).within(always),
		"latency|graph":     plain(anywhere, (*session).cmdLatencyGraph),
		"latency|histogram": plain(anywhere, (*session).cmdLatencyHistogram),
		"latency|history":   plain(anywhere, (*session).cmdLatencyHistory),
		"latency|latest":    plain(anywhere, (*session).cmdLatencyLatest),
		"latency|reset":     plain(anywhere, (*session).cmdLatencyReset),

		"memory|doctor":       plain(unlocked, (*session).cmdMemoryDoctor).within(always),
		"memory|malloc-stats": plain(waits, (*session).cmdMemoryMallocStats).within(always),
		"memory|purge":        plain(waits, (*session).cmdMemoryPurge).within(always),
		"memory|stats":        sessionHandler{run: (*session).cmdMemoryStats, mode: unlocked}.within(always),
	}
	for _, container := range []string{"client", "acl", "command", "config", "slowlog", "latency", "memory", "pubsub"} {
		h[container+"|help"] = plain(anywhere, (*session).cmdHelp)
	}
	addHoldfast(h)
	return h
}
