// Package googlecloud is a fleeting plugin for Google Cloud: the instances of a managed instance group of Compute
// Engine, in one zone or in one region.
//
// It guarantees that a snapshot of the group is whole or an error, so that throttling never looks like lost
// instances; and that a request whose answer was lost is not made twice: it names the instances it makes.
//
// It asks one call per update of Google, and one more for every 500 instances.
//
// The plugin's main program imports it.
package googlecloud
