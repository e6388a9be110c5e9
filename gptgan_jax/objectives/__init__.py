"""What each player learns from: functions of scores, rewards and log-probabilities; they know no network."""
