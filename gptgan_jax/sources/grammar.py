"""The built-in corpus: a hand-written probabilistic grammar of English scenes.

    the two brown horses that the farmer owns are standing near an old wooden gate .

It is small enough that the exact probability of any sentence is known (see `pcfg.PCFG`), and rich enough that
a small GPT has something to learn: agreement of number and tense, also across relative clauses, "a" and "an",
the order of adjectives, and who does what to what (people read books, animals chase animals, cakes are eaten).
Every sentence ends in " .", is 4 to 24 words long by construction, and has exactly one derivation, so that the
entropy of derivations is that of sentences.

How to read RULES: a line `Left -> A b 3 | C` holds a left side and its alternatives, each with a weight at its
end (1 if absent); upper case is a nonterminal, lower case a word. A name in braces is a feature: the alternative
with its left side stands for one rule per value in FEATURES, with the same value in every place and the same
weight each. `{do.form}` and `{do.tense}` are the parts of a feature that has parts. The words follow below RULES,
the most frequent first.

What keeps it unambiguous: a word is in only one class of nouns; prepositions of nouns (with, in + clothes, from,
about) differ from those of verbs, or take other nouns; a noun with a relative clause or a prepositional phrase
ends the verb phrase, and holds no second one; adverbs before a verb (carefully) are not those after it (quietly);
no verb in use has a past tense like its present (so "read" has no past here), and no noun a plural like its
singular.
"""

import itertools
import string
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from gptgan_jax.sources.pcfg import PCFG, Rule, rules_from_text


class Doing(NamedTuple):
    """A form of the verb together with the tense of its clause."""

    form: str
    tense: str

    def __format__(self, spec: str) -> str:
        return f"{self.form}_{self.tense}"


AGENTS = ("person", "animal", "bird", "vehicle")  # the classes of nouns, of which these can act
MOVABLE = ("tool", "food", "text", "cloth", "instrument")
PLACES = ("area", "surface", "landmark", "path")

FEATURES: dict[str, tuple[Any, ...]] = {
    "n": ("sg", "pl"),  # number
    "m": ("sg", "pl"),  # number of another noun
    "t": ("pres", "past"),  # tense
    "v": ("C", "V"),  # first letter of the next word: consonant or vowel
    "form": ("base", "s", "past", "ing", "pp"),  # eat, eats, ate, eating, eaten
    "do": tuple(Doing(form, "pres") for form in ("base", "s", "ing", "pp"))
    + tuple(Doing(form, "past") for form in ("base", "past", "ing", "pp")),
    "clause": ("Heavy", "Mid", "Short", "There"),
    "z": ("Long", "Mid", "Short"),  # length of a verb phrase
    "light": ("Mid", "Short"),
    "size": ("Lite", "Core"),  # length of a noun phrase: at most 3 or at most 5 words
    "np": ("Lite", "Core", "Big_pres", "Big_past"),  # Big: with a modifier after the noun, at most 12 words
    "k": (*AGENTS, *MOVABLE, *PLACES),  # any class
    "beast": ("animal", "bird"),
    "agent": AGENTS,
    "movable": MOVABLE,
    "mobile": (*AGENTS, *MOVABLE),
    "place": PLACES,
    "inanimate": (*MOVABLE, *PLACES),
}

RULES = """
# ---- Sentences. A Short clause has at most 9 words, a Mid one 18, a Heavy one (Big subject, Mid verb phrase)
# 23, and so has a Long one, whose verb phrase ends in a Big noun phrase or joins two: no sentence is two of these.
S -> Long_{t} . 22 | Heavy_{t} . 17 | Mid_{t} . 26 | Mid_{t} Time_{t} . 6 | Time_{t} , Mid_{t} . 5
S -> Short_{t} Joining Short_{t} . 10 | Joining_first Short_{t} , Short_{t} . 5 | There_{t} . 8
Joining -> and 4 | while 4 | but 2 | because 2 | when 1
Joining_first -> while 3 | when 2 | before 1 | after 1
Time_pres -> now 3 | today 3 | this morning 2 | this week 1 | at the moment 1
Time_past -> yesterday 4 | last night 2 | last week 2 | last summer 1 | that day 1
Long_{t} -> Long_person_{t} 50 | Long_animal_{t} 20 | Long_bird_{t} 7 | Long_vehicle_{t} 6
Long_{t} -> Core_person_{n} Saying_{n}_{t} that Short_{t} 3
{clause}_{t} -> {clause}_person_{t} 46 | {clause}_animal_{t} 20 | {clause}_bird_{t} 8 | {clause}_vehicle_{t} 6
{clause}_{t} -> {clause}_{inanimate}_{t} 2
Long_{agent}_{t} -> Core_{agent}_sg Long_vp_{agent}_sg_{t} 5 | Core_{agent}_pl Long_vp_{agent}_pl_{t} 4
Heavy_{k}_{t} -> Big_{t}_{k}_sg Mid_vp_{k}_sg_{t} 5 | Big_{t}_{k}_pl Mid_vp_{k}_pl_{t} 4
Mid_{k}_{t} -> Core_{k}_sg Mid_vp_{k}_sg_{t} 5 | Core_{k}_pl Mid_vp_{k}_pl_{t} 4
Mid_{k}_{t} -> Lite_{k}_{n} and Lite_{k}_{m} Mid_vp_{k}_pl_{t} 0.25
Short_{k}_{t} -> Lite_{k}_sg Short_vp_{k}_sg_{t} 5 | Lite_{k}_pl Short_vp_{k}_pl_{t} 3
There_{k}_{t} -> there Be_{n}_{t} Some_{k}_{n} Where_{k}_Core 2 | there Be_{n}_{t} Some_{k}_{n} Relative_{k}_{n}_{t} 1

# ---- Noun phrases
Lite_{k}_sg -> A_C Noun1_{k}_sg_C 4 | A_V Noun1_{k}_sg_V 1
Core_{k}_sg -> A_C Noun2_{k}_sg_C 4 | A_V Noun2_{k}_sg_V 1
Some_{k}_sg -> a Noun2_{k}_sg_C 4 | an Noun2_{k}_sg_V 1
Lite_{k}_pl -> Plural Noun1_{k}_pl
Core_{k}_pl -> Plural Noun2_{k}_pl 5 | Definite Number Noun2_{k}_pl 2
Some_{k}_pl -> Indefinite Noun2_{k}_pl
Noun1_{k}_sg_{v} -> N_{k}_sg_{v} 8 | First_{k}_{v} N_{k}_sg 3 | Second_{k}_{v} N_{k}_sg 3
Noun2_{k}_sg_{v} -> N_{k}_sg_{v} 6 | First_{k}_{v} N_{k}_sg 3 | Second_{k}_{v} N_{k}_sg 3
Noun2_{k}_sg_{v} -> First_{k}_{v} Second_{k} N_{k}_sg 2
Noun1_{k}_pl -> N_{k}_pl 8 | First_{k} N_{k}_pl 3 | Second_{k} N_{k}_pl 3
Noun2_{k}_pl -> N_{k}_pl 6 | First_{k} N_{k}_pl 3 | Second_{k} N_{k}_pl 3 | First_{k} Second_{k} N_{k}_pl 2
Big_{t}_{k}_{n} -> Core_{k}_{n} With_{k}_{n} 2 | Core_{k}_{n} Relative_{k}_{n}_{t} 3
A_C -> a 30 | The_sg 45
A_V -> an 30 | The_sg 45
The_sg -> the 80 | this 5 | my 3 | his 3 | her 3 | our 1 | another 2 | every 1 | each 0.5
Plural -> the 65 | these 5 | those 4 | my 2 | his 2 | her 2 | our 1 | Indefinite 24
Indefinite -> some 4 | two 4 | three 3 | many 3 | several 2 | four 1 | five 1
Definite -> the 8 | these 2 | those 2 | his 1 | her 1 | my 1
Number -> two 6 | three 4 | four 2 | five 1
# Prepositional phrases of nouns
With_person_sg -> with Lite_tool_sg 3 | with Lite_animal_sg 1 | in Lite_cloth_sg 4 | from Lite_area_sg 2
With_person_pl -> with Noun1_tool_pl 2 | in Noun1_cloth_pl 3 | from Lite_area_sg 2
With_animal_sg -> with a Looks tail | with a Looks nose | with Looks ears | from Lite_area_sg
With_animal_pl -> with Looks ears | with Looks legs | with Looks spots | from Lite_area_sg
With_bird_sg -> with a Looks beak | with a Looks tail | with Looks wings
With_bird_pl -> with Looks wings 2 | with Looks feathers 1
With_vehicle_{n} -> with Wear windows 2 | with Wear doors 1 | with Wear lights 1 | from Lite_area_sg 2
With_tool_{n} -> with a Wear handle 1 | from Lite_area_sg 2
With_food_{n} -> from Lite_area_sg
With_text_{n} -> about Lite_animal_{m} 2 | about Lite_person_{m} 1 | about Noun1_bird_pl 1 | from Lite_area_sg 1
With_cloth_{n} -> with Looks buttons | with Looks sleeves | with Looks pockets | from Lite_area_sg
With_instrument_{n} -> with a Wear case 1 | from Lite_area_sg 2
With_area_{n} -> with Wear lights | with Wear signs | with Wear walls
With_surface_{n} -> with a Wear leg | with a Wear corner
With_landmark_{n} -> with a Wear light | with a Wear sign
With_path_{n} -> with Wear lights 1 | with Wear signs 2
Looks -> long 3 | short 2 | white 2 | black 2 | yellow 1
Wear -> broken 2 | new 1 | green 1 | strange 1

# Relative clauses, of the subject (agreeing with the noun) and of the object (with a gap after the verb)
Relative_person_{n}_{t} -> who Short_vp_person_{n}_{t} 4 | that Gap_person_{t} 1
Relative_{beast}_{n}_{t} -> that Short_vp_{beast}_{n}_{t} 3 | that Gap_{beast}_{t} 2
Relative_vehicle_{n}_{t} -> that Short_vp_vehicle_{n}_{t} 3 | that Gap_vehicle_{t} 2
Relative_{inanimate}_{n}_{t} -> that Short_vp_{inanimate}_{n}_{t} 1 | that Gap_{inanimate}_{t} 3
Gap_{k}_{t} -> Lite_person_sg Taking_{k}_sg_{t} 5 | Lite_person_pl Taking_{k}_pl_{t} 3
Taking_{k}_sg_pres -> V_{k}_s 3 | is V_{k}_ing 3 | has V_{k}_pp 2
Taking_{k}_pl_pres -> V_{k}_base 3 | are V_{k}_ing 3 | have V_{k}_pp 2
Taking_{k}_sg_past -> V_{k}_past 3 | was V_{k}_ing 2 | had V_{k}_pp 1
Taking_{k}_pl_past -> V_{k}_past 3 | were V_{k}_ing 2 | had V_{k}_pp 1

# ---- Verb phrases {z}_vp: number and tense outside, and inside {z}_do with the form of its verb
{z}_vp_{agent}_sg_pres -> is {z}_do_{agent}_ing_pres 40 | {z}_do_{agent}_s_pres 20 | Often {z}_do_{agent}_s_pres 6
{z}_vp_{agent}_sg_pres -> has {z}_do_{agent}_pp_pres 7 | Can_pres {z}_do_{agent}_base_pres 5
{z}_vp_{agent}_pl_pres -> are {z}_do_{agent}_ing_pres 40 | {z}_do_{agent}_base_pres 20
{z}_vp_{agent}_pl_pres -> Often {z}_do_{agent}_base_pres 6
{z}_vp_{agent}_pl_pres -> have {z}_do_{agent}_pp_pres 7 | Can_pres {z}_do_{agent}_base_pres 5
{z}_vp_{agent}_sg_past -> was {z}_do_{agent}_ing_past 25
{z}_vp_{agent}_pl_past -> were {z}_do_{agent}_ing_past 25
{z}_vp_{agent}_{n}_past -> {z}_do_{agent}_past_past 38 | Often {z}_do_{agent}_past_past 5
{z}_vp_{agent}_{n}_past -> had {z}_do_{agent}_pp_past 6 | Can_past {z}_do_{agent}_base_past 4
{light}_vp_{agent}_{n}_{t} -> Be_{n}_{t} State_{agent}_{n}_{t} 15
{light}_vp_{inanimate}_{n}_{t} -> Be_{n}_{t} State_{inanimate}_{n}_{t}
Long_vp_{agent}_sg_pres -> is Short_do_{agent}_ing_pres and Short_do_{agent}_ing_pres 6
Long_vp_{agent}_pl_pres -> are Short_do_{agent}_ing_pres and Short_do_{agent}_ing_pres 6
Long_vp_{agent}_sg_pres -> Short_do_{agent}_s_pres and Short_do_{agent}_s_pres 3
Long_vp_{agent}_pl_pres -> Short_do_{agent}_base_pres and Short_do_{agent}_base_pres 3
Long_vp_{agent}_{n}_past -> Short_do_{agent}_past_past and Short_do_{agent}_past_past 7
Saying_sg_pres -> Say_s | is Say_ing
Saying_pl_pres -> Say_base | are Say_ing
Saying_{n}_past -> Say_past
Be_sg_pres -> is
Be_pl_pres -> are
Be_sg_past -> was
Be_pl_past -> were
Can_pres -> can 2 | will 2 | must 1 | may 1
Can_past -> could
How -> slowly 3 | quickly 2 | quietly 1
Mood -> quietly 3 | happily 2 | alone 2
Carefully -> carefully 3 | gladly 2 | proudly 1 | eagerly 1
Often -> often 3 | always 2 | never 2 | sometimes 2 | usually 1
# States: adjectives, places, comparisons, passives
State_{k}_{n}_{t} -> Pred_{k} 4 | Degree Pred_{k} 3 | Where_{k}_Lite 3 | Comp_{k} than Lite_{k}_{n} 2
State_{k}_{n}_pres -> being V_{k}_passive by Doer 4
State_{k}_{n}_past -> V_{k}_passive by Doer 4
Doer -> A_C N_person_sg_C 5 | A_V N_person_sg_V 1 | Plural N_person_pl 3
Degree -> very 3 | quite 2 | too 1
Where_{mobile}_{size} -> Where_{size}
Where_{place}_{size} -> Near {size}_landmark_sg

# What people do
Long_do_person_{do} -> Take_Long_{do} 24 | Give_{do.form} Lite_person_{n} Big_{do.tense}_{movable}_{m} 0.4
Long_do_person_{do} -> Stay_{do.form} Where_Big_{do.tense} 5 | Stay_{do.form} Mood Where_Big_{do.tense} 1
Long_do_person_{do} -> Go_{do.form} Way_Big_{do.tense} 4 | Go_{do.form} How Way_Big_{do.tense} 2
Mid_do_person_{do} -> Take_Mid_{do} 14 | Give_{do.form} Lite_person_{n} Lite_{movable}_{m} 0.3
Mid_do_person_{do} -> Give_{do.form} Lite_{movable}_{m} to Lite_person_{n} 0.3
Mid_do_person_{do} -> Act_{do.form} 1 | Act_{do.form} Mood 1 | Act_{do.form} Where_Core 3
Mid_do_person_{do} -> Stay_{do.form} Where_Core 4 | Stay_{do.form} Mood Where_Lite 2
Mid_do_person_{do} -> Go_{do.form} Way_Core 4 | Go_{do.form} How Way_Lite 2
Short_do_person_{do} -> Take_Short_{do} 10 | Stay_{do.form} Where_Lite 3 | Go_{do.form} Way_Lite 3
Short_do_person_{do} -> Act_{do.form} 2 | Act_{do.form} Mood 2
Take_{z}_{do} -> Take_{z}_animal_{do} 4 | Take_{z}_person_{do} 3 | Take_{z}_bird_{do} 2 | Take_{z}_vehicle_{do} 2
Take_{z}_{do} -> Take_{z}_{movable}_{do} 2 | Take_{z}_{place}_{do} 1
Take_Long_{k}_{do} -> V_{k}_{do.form} Big_{do.tense}_{k}_sg 5 | V_{k}_{do.form} Big_{do.tense}_{k}_pl 3
Take_Mid_{k}_{do} -> V_{k}_{do.form} Core_{k}_{n} 2 | Carefully V_{k}_{do.form} Core_{k}_{n} 1
Take_Mid_{k}_{do} -> V_{k}_{do.form} Lite_{k}_{n} and Lite_{k}_{m} 0.3
Take_Mid_{mobile}_{do} -> V_{mobile}_{do.form} Core_{mobile}_{n} Where_Lite 2
Take_Short_{k}_{do} -> V_{k}_{do.form} Lite_{k}_sg 5 | V_{k}_{do.form} Lite_{k}_pl 3
Take_Mid_{do} -> Drink_{do.form} Drink 2 | Drink_{do.form} Drink Where_Lite 2
Take_Short_{do} -> Drink_{do.form} Some_drink 2
Some_drink -> some Liquid 1 | some Fresh Liquid 1
Drink -> Some_drink 3 | a Cup_sg of Liquid 3 | a Cup_sg of Fresh Liquid 1 | two Cup_pl of Liquid 2
Fresh -> cold 3 | hot 3 | fresh 2 | sweet 1
Liquid -> water 5 | tea 4 | coffee 4 | milk 3 | juice 2 | lemonade 1
Cup_sg -> cup 3 | glass 2 | bottle 1
Cup_pl -> cups 3 | glasses 2 | bottles 1

# What animals, birds and vehicles do
Long_do_{beast}_{do} -> Stay_{do.form} Where_Big_{do.tense} 4 | Hunt_{beast}_{do.form} Prey_{beast}_Big_{do.tense} 5
Long_do_{beast}_{do} -> Roam_{beast}_{do.form} Fly_{beast}_Big_{do.tense} 4
Mid_do_{beast}_{do} -> Stay_{do.form} Where_Core 4 | Stay_{do.form} Mood Where_Lite 1
Mid_do_{beast}_{do} -> Hunt_{beast}_{do.form} Prey_{beast}_Core 4
Mid_do_{beast}_{do} -> Roam_{beast}_{do.form} Fly_{beast}_Core 3 | Roam_{beast}_{do.form} How Fly_{beast}_Lite 2
Mid_do_{beast}_{do} -> Play_{beast}_{do.form} 1 | Play_{beast}_{do.form} Mood 1 | Play_{beast}_{do.form} Where_Core 2
Short_do_{beast}_{do} -> Stay_{do.form} Where_Lite 3 | Hunt_{beast}_{do.form} Prey_{beast}_Lite 5
Short_do_{beast}_{do} -> Roam_{beast}_{do.form} Fly_{beast}_Lite 3
Short_do_{beast}_{do} -> Play_{beast}_{do.form} 1 | Play_{beast}_{do.form} Mood 1
Roam_animal_{form} -> Go_{form}
Fly_animal_{np} -> Way_{np}
Fly_bird_{np} -> Over {np}_landmark_{n} | Over {np}_area_sg
Over -> over 3 | above 1 | around 1
Prey_animal_{np} -> {np}_animal_{n} 3 | {np}_bird_{n} 2 | {np}_person_{n} 3 | {np}_vehicle_{n} 1
Prey_bird_{np} -> {np}_animal_{n} 1 | {np}_bird_{n} 2 | {np}_person_{n} 1
Long_do_vehicle_{do} -> Drive_{do.form} Way_Big_{do.tense} 3 | Drive_{do.form} How Way_Big_{do.tense} 1
Long_do_vehicle_{do} -> Bring_{do.form} Load_Big_{do.tense} 4
Mid_do_vehicle_{do} -> Drive_{do.form} Way_Core 3 | Drive_{do.form} How Way_Lite 2
Mid_do_vehicle_{do} -> Stop_{do.form} Near Core_landmark_sg 3 | Bring_{do.form} Load_Core 3
Short_do_vehicle_{do} -> Drive_{do.form} Way_Lite 4 | Stop_{do.form} Near Lite_landmark_sg 3
Short_do_vehicle_{do} -> Bring_{do.form} Load_Lite 2
Load_{np} -> {np}_person_pl 3 | {np}_tool_pl 2 | {np}_food_pl 2 | {np}_animal_{n} 1

# Prepositional phrases of verbs, where and whither
Where_{np} -> In {np}_area_sg 9 | In {np}_area_pl 1 | on {np}_surface_sg 7 | on {np}_surface_pl 1
Where_{np} -> Near {np}_landmark_sg 7 | Near {np}_landmark_pl 2 | Near {np}_person_{n} 1
Way_{np} -> Along {np}_path_sg 6 | Along {np}_path_pl 2 | Through {np}_area_sg 5
Way_{np} -> Toward {np}_landmark_sg 5 | Toward {np}_person_{n} 1
In -> in 6 | outside 1
Near -> near 4 | beside 2 | behind 2
Along -> along 3 | down 2 | across 2
Through -> through 3 | across 1 | into 1
Toward -> toward 2 | past 2 | to 2 | around 1
"""

NOUNS = {  # class -> "singular" or "singular/irregular-plural"
    "person": """man/men woman/women boy girl child/children farmer teacher student artist doctor nurse neighbor baker
        soldier actor singer dancer engineer driver tourist""",
    "animal": "dog cat horse cow elephant goat rabbit puppy fox monkey pig kitten donkey otter pony squirrel",
    "bird": "bird duck owl eagle crow parrot swan robin pigeon",
    "vehicle": "car bus truck taxi tractor van ambulance wagon",
    "tool": "ball box bag umbrella camera basket knife/knives rope ladder hammer lamp balloon axe",
    "food": "apple cake sandwich egg pizza banana potato/potatoes onion cookie pear",
    "text": "book letter newspaper story map magazine essay article",
    "cloth": "hat coat shirt dress jacket scarf/scarves apron",
    "instrument": "guitar piano violin drum flute accordion",
    "area": "park garden kitchen field forest orchard yard village office market library museum city",
    "surface": "table bench chair bed sofa rug desk armchair stage",
    "landmark": "gate house wall fence cottage church bridge fountain statue tower castle entrance station inn",
    "path": "road street path trail avenue highway beach",
}

ADJECTIVES = {  # class -> First (stands before Second) | Second | Pred ("is ...") | Comp ("is ... than")
    "person": """tall kind friendly happy quiet clever angry lonely elegant brave | young old elderly american blond
        | happy tired hungry busy thirsty late angry ready proud | taller older younger stronger""",
    "animal": """big small hungry friendly lazy enormous tiny angry wild clever
        | brown black white young old gray spotted | hungry sleepy tired dirty calm afraid | bigger faster smaller""",
    "bird": """small big beautiful tiny noisy ugly enormous | white black brown young yellow old gray
        | hungry noisy tired afraid calm | bigger smaller faster""",
    "vehicle": """old small new big fast dirty noisy empty expensive
        | red blue yellow green white orange | empty full dirty slow fast | faster slower bigger older""",
    "tool": """small old big new heavy beautiful expensive cheap
        | red blue wooden black yellow orange metal | heavy dirty expensive useful | bigger heavier cheaper""",
    "food": """big small delicious enormous fresh cheap | sweet ripe green organic yellow
        | ready delicious cold fresh warm | bigger sweeter fresher""",
    "text": """old long new interesting short famous boring | english italian french
        | interesting boring long famous | longer shorter older""",
    "cloth": """old beautiful new warm long expensive dirty | red blue black white green woolen orange
        | dirty wet clean dry expensive | warmer longer cheaper""",
    "instrument": """old beautiful new expensive small cheap | wooden italian
        | expensive loud beautiful old | older louder cheaper""",
    "area": """big small quiet beautiful empty sunny crowded | old new ancient green
        | quiet crowded empty sunny beautiful | bigger quieter older""",
    "surface": """big old small new dirty comfortable empty | wooden red metal orange
        | dirty clean comfortable wet | bigger older cleaner""",
    "landmark": """old big small beautiful tall ancient enormous | white wooden stone gray iron
        | beautiful famous dark tall | taller older bigger""",
    "path": """long quiet narrow empty dusty icy | old new ancient
        | empty wet narrow dark | longer wider quieter""",
}

VERBS = {  # category -> verbs; V_x is what people do to an x
    "V_person": "help meet watch follow call visit love know",
    "V_animal": "feed wash chase own pet love brush",
    "V_bird": "watch feed draw photograph",
    "V_vehicle": "drive wash repair park own buy",
    "V_tool": "hold carry find use buy sell clean",
    "V_food": "eat cook buy taste want",
    "V_text": "read write study open own",
    "V_cloth": "wear wash buy fold choose",
    "V_instrument": "play buy carry own",
    "V_area": "visit clean leave enter photograph",
    "V_surface": "clean paint move repair",
    "V_landmark": "paint admire draw photograph pass",
    "V_path": "cross clean repair leave",
    "Give": "give show hand bring offer sell",
    "Stay": "sit stand wait sleep rest lie",
    "Go": "walk run hurry wander jump",
    "Act": "laugh sing dance work talk smile",
    "Say": "say think know believe",
    "Drink": "drink order pour",
    "Hunt_animal": "chase watch follow find",
    "Hunt_bird": "follow watch see",
    "Roam_bird": "fly glide",
    "Play_animal": "play eat hide swim",
    "Play_bird": "sing eat drink",
    "Drive": "move drive",
    "Stop": "stop wait turn",
    "Bring": "carry bring",
}

# Verb -> past tense, participle and, where no rule of spelling gives it, -ing; "-" for a form that is not used.
IRREGULAR_VERBS = """
    believe believed believed -; bring brought brought; buy bought bought; choose chose chosen;
    draw drew drawn; drink drank drunk; drive drove driven; eat ate eaten; feed fed fed; find found found;
    fly flew flown; give gave given; hide hid hidden; hold held held; know knew known -; leave left left;
    lie lay lain lying; love loved loved -; meet met met; own owned owned -; pet petted petted petting;
    read - read; run ran run running; say said said; see saw seen -; sell sold sold; show showed shown;
    sing sang sung; sit sat sat sitting; sleep slept slept; stand stood stood; stop stopped stopped stopping;
    swim swam swum swimming; think thought thought; want wanted wanted -; wear wore worn; write wrote written
"""
IRREGULAR = dict(entry.split(maxsplit=1) for entry in IRREGULAR_VERBS.split(";"))


def conjugate(verb: str) -> dict[str, str]:
    """The forms of a verb by the names of the feature `form` and "passive" (the participle, for verbs that have -ing).

    The spelling rules give study, studies, studied, studying. Unused forms are left out.
    """
    third = plural(verb)
    past = third[:-1] + "d" if verb.endswith("e") or third.endswith("ies") else verb + "ed"
    ing = verb[:-1] + "ing" if verb.endswith("e") and not verb.endswith("ee") else verb + "ing"
    irregular = IRREGULAR.get(verb, f"{past} {past}").split()
    past, participle, ing = (*irregular, ing)[:3]
    passive = "-" if ing == "-" else participle
    forms = {"base": verb, "s": third, "past": past, "ing": ing, "pp": participle, "passive": passive}
    return {form: word for form, word in forms.items() if word != "-"}


def plural(noun: str) -> str:
    """The regular plural of a noun, which is also the regular third person of a verb."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


@lru_cache(maxsize=1)
def english_scenes() -> PCFG:
    """The grammar of English scenes."""
    rules = list(rules_from_text("\n".join(_expand(RULES))))
    needed = {symbol for rule in rules for symbol in rule.right}
    return PCFG(tuple(rules + [rule for rule in _lexicon() if rule.left in needed]))


def _expand(template: str) -> Iterator[str]:
    """Each alternative of each line, once per combination of values of the features that its rule names."""
    for line in template.splitlines():
        left, _, alternatives = line.partition("#")[0].partition(" -> ")
        for alternative in alternatives.split("|") if left else ():
            rule = f"{left} -> {alternative}"
            fields = (field for _, field, _, _ in string.Formatter().parse(rule) if field)
            names = sorted({field.partition(".")[0] for field in fields})
            for values in itertools.product(*(FEATURES[name] for name in names)):
                yield rule.format(**dict(zip(names, values, strict=True)))


def _lexicon() -> Iterator[Rule]:
    """The lexical categories: N_person_sg, N_person_sg_C, N_person_pl, First_person, V_food_past, ..."""
    for noun_class, nouns in NOUNS.items():
        pairs = [noun.split("/") if "/" in noun else (noun, plural(noun)) for noun in nouns.split()]
        yield from _with_onsets(f"N_{noun_class}_sg", [singular for singular, _ in pairs])
        yield from _zipf(f"N_{noun_class}_pl", [several for _, several in pairs])
    for noun_class, adjectives in ADJECTIVES.items():
        for category, words in zip(("First", "Second", "Pred", "Comp"), adjectives.split("|"), strict=True):
            yield from _with_onsets(f"{category}_{noun_class}", words.split())
    for category, verbs in VERBS.items():
        forms = [conjugate(verb) for verb in verbs.split()]
        for form in (*FEATURES["form"], "passive"):
            yield from _zipf(f"{category}_{form}", [verb[form] for verb in forms if form in verb])


def _with_onsets(category: str, words: list[str]) -> Iterator[Rule]:
    """The category itself and its two parts: words that follow "a" (_C) and words that follow "an" (_V)."""
    yield from _zipf(category, words)
    yield from _zipf(f"{category}_C", [word for word in words if word[0] not in "aeiou"])
    yield from _zipf(f"{category}_V", [word for word in words if word[0] in "aeiou"])


def _zipf(category: str, words: list[str]) -> Iterator[Rule]:
    """Zipf-Mandelbrot weights 1 / (rank + 3) by the order of the list, so that no word of a category is very rare."""
    for rank, word in enumerate(words, 1):
        yield Rule(category, (word,), 1 / (rank + 3))
