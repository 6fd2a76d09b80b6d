# Read into the harness of Valkey's own tests, behind its own procedures: what administers a server
# goes to the operator's port, as the owner of a private server would do it; all else is the app's.
#
# Nothing of the tests themselves is changed. Without FLECT_PREFIX (a private server) nothing is routed.

if {[info exists ::env(FLECT_PREFIX)] && $::env(FLECT_PREFIX) ne {}} {

rename ::valkey::__dispatch__raw__ ::valkey::flect_app
rename ::valkey::__method__read ::valkey::flect_read_app
# By connection: the database, whether it is inside MULTI, and replies that the operator's port owes.
array set ::flect_database {}
array set ::flect_multi {}
array set ::flect_owed {}
# Connections of the operator's own.
set ::flect_operators {}

# What administers the server. CONFIG is looked at more closely.
set ::flect_admin {
    bgrewriteaof bgsave debug failover module pfdebug pfselftest replicaof save shutdown slaveof
}
# Settings that a store has of its own.
set ::flect_settings {commandlog-* latency-monitor-threshold notify-keyspace-events slowlog-*}
# DEBUG and PFDEBUG with a key, and where it stands.
set ::flect_keys {
    {debug object} 1 {debug listpack} 1 {debug ziplist} 1 {debug quicklist} 1 {debug htstats-key} 1
    {debug digest-value} 1
    {pfdebug getreg} 1 {pfdebug decode} 1 {pfdebug encoding} 1 {pfdebug todense} 1
}

proc flect_key {id key} {
    set database 0
    if {[info exists ::flect_database($id)]} {set database $::flect_database($id)}
    if {$database == 0} {return "$::env(FLECT_PREFIX):$key"}
    return "$::env(FLECT_PREFIX)/$database:$key"
}

proc flect_connect {} {
    set handle [valkey $::env(FLECT_OPERATOR_HOST) $::env(FLECT_OPERATOR_PORT)]
    lappend ::flect_operators $::valkey::id
    return $handle
}

proc flect_is_admin {name argv} {
    if {$name in $::flect_admin} {return 1}
    if {$name ne "config"} {return 0}
    if {[string tolower [lindex $argv 0]] eq "rewrite"} {return 1}
    if {[string tolower [lindex $argv 0]] ni {get set}} {return 0}
    foreach own $::flect_settings {
        if {[string match -nocase $own [lindex $argv 1]]} {return 0}
    }
    return 1
}

proc ::valkey::__dispatch__raw__ {id method argv} {
    set name [string tolower $method]
    set app [expr {$id in $::flect_operators || !$::valkey::blocking($id) || [info exists ::flect_multi($id)]}]
    switch $name {
        select {set ::flect_database($id) [lindex $argv 0]}
        multi {set ::flect_multi($id) 1}
        exec - discard - close {unset -nocomplain ::flect_multi($id)}
        reset {unset -nocomplain ::flect_multi($id) ::flect_database($id)}
    }
    # An attribute comes in front of a reply, on the connection that asked for it.
    if {$name eq "debug" && [string tolower [lindex $argv 0]] eq "protocol"} {set app 1}
    if {$app || ![flect_is_admin $name $argv]} {
        return [::valkey::flect_app $id $method $argv]
    }
    set sub [string tolower [lindex $argv 0]]
    if {[dict exists $::flect_keys [list $name $sub]]} {
        for {set at 1} {$at < [llength $argv]} {incr at} {
            lset argv $at [flect_key $id [lindex $argv $at]]
            if {$sub ne "digest-value"} break
        }
    }
    if {!$::valkey::deferred($id)} {
        if {![info exists ::flect_operator]} {set ::flect_operator [flect_connect]}
        return [$::flect_operator $method {*}$argv]
    }
    set operator [flect_connect]
    $operator deferred 1
    $operator $method {*}$argv
    lappend ::flect_owed($id) $operator
}

proc ::valkey::__method__read {id fd} {
    if {![info exists ::flect_owed($id)] || [llength $::flect_owed($id)] == 0} {
        return [::valkey::flect_read_app $id $fd]
    }
    set operator [lindex $::flect_owed($id) 0]
    set ::flect_owed($id) [lrange $::flect_owed($id) 1 end]
    set failed [catch {$operator read} reply]
    $operator close
    if {$failed} {return -code error $reply}
    return $reply
}

# The stream that a replica gets is the server's; in it names bear the prefix, and what the agent and
# the operator write for themselves stands between.
rename attach_to_replication_stream_on_connection flect_attach
proc attach_to_replication_stream_on_connection {connection} {
    set server [lindex $::servers end+$connection]
    set away $server
    dict set away host $::env(FLECT_OPERATOR_HOST)
    dict set away port $::env(FLECT_OPERATOR_PORT)
    set place [expr {[llength $::servers] - 1 + $connection}]
    lset ::servers $place $away
    set failed [catch {flect_attach $connection} stream]
    lset ::servers $place $server
    if {$failed} {error $stream}
    return $stream
}
rename read_from_replication_stream flect_read_stream
proc read_from_replication_stream {stream} {
    while 1 {
        set command [flect_read_stream $stream]
        if {[string match {flect:*} [lindex $command 1]]} continue
        set plain {}
        foreach word $command {
            if {[string first $::env(FLECT_PREFIX) $word] == 0} {
                set word [string range $word [expr {[string first : $word] + 1}] end]
            }
            lappend plain $word
        }
        return $plain
    }
}

}
