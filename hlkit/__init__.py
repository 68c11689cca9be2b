"""hlkit finds the highlights of long game streams and cuts them into a reel."""
