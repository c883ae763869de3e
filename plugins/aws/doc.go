// Package aws is a fleeting plugin for AWS: the instances of an EC2 Auto Scaling group.
//
// It guarantees that a snapshot of the group is whole or an error, so that throttling never looks like lost
// instances; that a request whose answer was lost is not made twice; and that an instance is only deleted
// together with its place in the group's desired capacity, so that the group does not replace it.
//
// It asks one call per update of AWS, whatever the size of the group, and one more for groups with spot
// instances.
//
// The plugin's main program imports it.
package aws
