"""Words that head a noun phrase and still name nothing that one box can follow.

The paper drops "virtual words (time, love, wind, ...)" and "plurals (family, people, two dogs, ...)" and prints no
list. Three lists serve here. `VIRTUAL_WORDS` and `GROUP_WORDS` were written by hand: what cannot be seen, what is a
place or the whole picture rather than a thing in it, and what is said about the shot. `abstract_nouns` reads
`abstract_nouns.txt`, chosen from WordNet by its kinds of meaning (the file says how). A configuration adds and takes
away words (`noun_chunks.virtual_words_add`, `virtual_words_remove`, and the same for groups).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["GROUP_WORDS", "VIRTUAL_WORDS", "abstract_nouns"]

# Lemmas in lower case, by kind; the kinds are for the reader, the code takes them all.
_TIME = """
age afternoon autumn beginning century dawn day daybreak daylight daytime decade dusk end evening fall future
hour instant lifetime midday midnight minute moment month morning night nighttime noon past period present season
second spring start summer sunrise sunset time today tomorrow tonight twilight week weekend while winter year yesterday
"""
_FEELING_AND_THOUGHT = """
ambition anger anxiety attention attitude beauty belief calm care celebration chance charm comfort concept confidence
courage curiosity danger decision depression desire dream emotion energy enjoyment excitement experience faith fear
feeling freedom friendship fun grief happiness harmony hate help honor hope humor idea imagination impression
inspiration intention interest joy kindness knowledge laughter leisure life loneliness love luck luxury memory mind
mood motivation mystery need opinion pain panic passion patience peace plan pleasure power pride problem purpose reason
relaxation respect romance sadness safety satisfaction sense shame shock silence solitude sorrow soul spirit stress
strength success support surprise sympathy tenderness thought tranquility trust truth victory warmth will wisdom wish
wonder worry youth
"""
_ACTIVITY = """
action activity advertising agriculture analysis art beginning business call change class commerce communication
competition construction conversation cooking cooperation dance dancing development discussion distance
education effort event exercise exploration farming fashion fishing fitness flight gathering growth health history
holiday hunting industry investment job journey laundry learning lesson marketing massage medicine meeting motion move
movement music party performance play practice preparation process production program project race
recreation research rest ride romance science service shopping show sleep song sound speech speed sport sports step
study swimming talk technology therapy touch tourism trade training transport transportation travel trip use
vacation visit voice walk wedding work workout yoga
"""
_WEATHER_AND_MATTER = """
air breeze climate cold darkness dark electricity fog gravity heat humidity light lighting mist noise oxygen rain
reflection ray shade shadow shine smell sunlight sunshine temperature thunder weather wind
"""
_SHOT_AND_PICTURE = """
aerial angle animation backdrop background blur close close-up closeup clip color colour composition
concept copy copyspace corner depth design detail edge effect film focus footage foreground frame front
graphic hd illustration image lapse layer loop macro middle mode pan panorama pattern perspective photo photograph
picture position quality recording render rendering resolution scene scenery shape shot side sight slowmo slow-motion
space style surface texture theme tilt timelapse time-lapse top transition version video view viewpoint wallpaper zoom
4k 8k
"""
_PLACE = """
area atmosphere background bottom center centre city coast country countryside direction district downtown earth
environment forest horizon indoor indoors inside interior land landscape left location middle nature neighborhood
ocean outdoor outdoors outside park part place planet region right row sea sky spot street town universe village way
wilderness world zone
"""
_MEASURE_AND_ABSTRACT = """
ability amount advantage aspect bit case cause condition course degree difference example fact form front kind
length level lot manner matter meaning method name number order part percent point price
quantity rate result role rule series situation size something anything nothing everything sort source
stage standard state system task thing title type unit value variety weight width word
"""

VIRTUAL_WORDS: frozenset[str] = frozenset(
    " ".join(
        (
            _TIME, _FEELING_AND_THOUGHT, _ACTIVITY, _WEATHER_AND_MATTER, _SHOT_AND_PICTURE, _PLACE,
            _MEASURE_AND_ABSTRACT,
        )
    ).split()
)  # fmt: skip

# Singular in grammar, many in the picture.
GROUP_WORDS: frozenset[str] = frozenset(
    [
        "army",
        "audience",
        "band",
        "bunch",
        "cattle",
        "choir",
        "cluster",
        "clan",
        "class",
        "collection",
        "colony",
        "community",
        "company",
        "couple",
        "crew",
        "crowd",
        "dozen",
        "duo",
        "everybody",
        "everyone",
        "family",
        "fleet",
        "flock",
        "folk",
        "furniture",
        "gang",
        "group",
        "herd",
        "litter",
        "mob",
        "orchestra",
        "pack",
        "pair",
        "party",
        "people",
        "personnel",
        "pile",
        "police",
        "public",
        "queue",
        "quartet",
        "range",
        "row",
        "school",
        "set",
        "squad",
        "staff",
        "staple",
        "swarm",
        "team",
        "traffic",
        "tribe",
        "trio",
        "troop",
        "troupe",
    ]
)


@cache
def abstract_nouns() -> frozenset[str]:
    """Return the lemmas of `abstract_nouns.txt`, read once."""
    lines = Path(__file__).with_name("abstract_nouns.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
