// Package azure is a fleeting plugin whose instances are the virtual machines of one Azure scale set, of
// uniform or of flexible orchestration.
//
// It guarantees that an update is one listing, however large the scale set, and fails rather than leaves
// machines out; that a request whose answer was lost is not carried out twice; that only machines it was
// asked to delete are deleted, and those that do not run and never will; and that it waits as long as Azure
// asks it to.
//
// Only the plugin's main program imports it.
package azure
