"""The data of the embedded sample; `README.md` beside this file says what they are and where they come from."""
