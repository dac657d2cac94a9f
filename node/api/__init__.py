"""The two HTTP listeners: `federation` for peers behind the gate, `local` for agents on this machine."""
