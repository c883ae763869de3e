// Package static is a fleeting plugin whose instances are a fixed list of hosts. Instances are never made or
// deleted: scaling up claims an idle host, scaling down releases one, after an optional command has brought
// it back into its first state.
//
// It guarantees that a host is handed out to one claim at a time; that a host whose reset command has not
// succeeded since its last claim is not handed out again; and that both hold across restarts of the plugin,
// by a small file that has no credentials in it.
//
// Only the plugin's main program imports it.
package static
