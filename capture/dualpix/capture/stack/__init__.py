"""Focus stacks: capturing, recording, checking, aligning and handing on."""
