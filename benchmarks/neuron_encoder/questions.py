"""Questions of about the published server's default length: a hundred tokens, which both servers pad to 128."""

PAIRS: tuple[tuple[str, str], ...] = (
    (
        "When does the ferry leave?",
        "The island is reached by a small ferry which crosses the sound four times a day in summer, twice in winter. "
        "It leaves the harbour at seven in the morning, waits an hour on the other side while bread, letters and the "
        "school's only teacher are brought ashore, and is back before the fishing boats return. In heavy weather the "
        "captain decides whether she sails, and he has been known to keep the whole village waiting for three days.",
    ),
    (
        "What did the engineers replace?",
        "After the flood of that spring the old mill stood still for most of a year. The wheel was sound, but silt "
        "had filled the race, and the gate could no longer be lifted by hand. Two engineers from the city measured "
        "the fall of the stream, replaced the gate with one of steel, and put a turbine where the wheel had been. "
        "Since then the mill has lit forty houses, and grinds no corn at all.",
    ),
    (
        "Who paid for the observatory?",
        "The observatory on the hill was paid for by a merchant who had never looked through a telescope. He had made "
        "his money in tin, and wished to be remembered for something that did not rust. The astronomers who worked "
        "there found two comets and a great many double stars before street lamps made the sky above the town too "
        "bright, and the larger instrument was taken apart and shipped to the southern hemisphere.",
    ),
    (
        "How long do the bees sleep?",
        "A colony of these bees lives for one season only. In autumn the young queens mate, look for a dry hole in the "
        "ground and sleep there for seven months, while all the others die with the first frost. In April each queen "
        "comes out alone, finds a nest that a mouse has left, and raises her first workers without any help. From then "
        "on she does not fly again, and by July three hundred daughters bring in what the colony needs.",
    ),
)
