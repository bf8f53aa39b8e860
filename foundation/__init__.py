"""What every stage stands on: settings, errors, events, the warehouse file. Imports no stage."""
