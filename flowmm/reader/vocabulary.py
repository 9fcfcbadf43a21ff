"""The reader's word lists. A listed word is one token; anything else is spelled letter by letter.

The lists are part of the trained weights: a new word shifts the token ids, so it needs a new training.
Capitalised words are listed only where they begin a sentence of the language (``The``, ``What``), since a
key such as ``North`` or ``Zebra`` must be spelled in the context as it is in the question.
"""

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    """old quiet small bright cold heavy simple narrow wooden open empty busy plain distant early gentle
    rapid silent public modern large green blue red yellow black white grey brown orange purple long short
    high low new late warm dry wet clean dark deep fresh full great hard light local main near next other
    own pale poor rich round same sharp slow soft strong sweet tall thick thin tired useful weak wide wild
    young careful certain common happy proud rare ready safe single steady sudden usual whole broken
    closed famous frozen golden hidden hollow lonely painted rough smooth useless"""
)

NOUNS = _words(
    """road house letter window engine report station garden page meeting story morning street kitchen
    school paper office machine teacher winter river bridge market village summer evening night day week
    month year hour table chair door wall floor roof room hall tower church farm field forest hill mountain
    valley lake sea coast island harbour boat ship train car bus bicycle wheel rope chain hammer box basket
    bottle glass cup plate knife spoon bread butter milk tea coffee apple fruit flower tree leaf branch root
    grass stone sand water fire smoke wind rain snow cloud storm sun moon star sky light shadow colour sound
    song voice music word name number book picture map list note line question answer lesson course test
    student doctor nurse farmer driver baker painter writer singer soldier worker neighbour friend family
    mother father brother sister child woman man people crowd team club group company shop bank museum
    library theatre hotel hospital factory mill mine park square corner path gate fence yard lamp candle
    mirror clock bell key lock coin ticket bag coat hat shoe shirt cloth wool silk leather metal iron gold
    silver copper wood brick dog cat horse cow sheep bird fish bear fox wolf plan idea problem reason result
    change order price cost trade work job task tool part piece side end start middle centre top place time
    life town city country world north south east west spring autumn visit journey holiday walk game prize
    message parcel record file folder drawer shelf desk pen pencil screen button signal pipe pump tank belt
    row column badge keeper code text keys facts sum total entry sheet front back
    half pair past rest matter event effort notice rule chance distance speed weight height"""
)

VERBS = _words(
    """was opened closed moved stood rested changed waited turned fell had been is are were has have stayed
    remained began ended arrived left returned stopped appeared worked lay lived grew shone passed looked
    seemed felt became went came ran sat slept spoke laughed cried failed broke cracked burned froze melted
    leaned slipped rolled floated sank rose slowed wears"""
)

TRANSITIVE_VERBS = _words(
    """found took gave made saw kept held carried brought sold bought built cleaned drew painted wrote read
    sent lost used needed wanted liked watched covered crossed followed filled fixed helped heard showed
    checked counted shared pulled pushed dropped lifted packed placed repaired reached visited stated
    copied printed planned"""
)

PREPOSITIONS = _words(
    """near behind beside before after under over with by from into through across along around against
    between above below inside outside beyond past during without toward"""
)

FUNCTION_WORDS = _words(
    """the a an of and or in on at to for not no all some many few more most less each every any both this
    that these those it they we he she his her its their our who which when where while because if but so
    as then than there here now soon again always never often once twice still also very too only just
    nearly quite almost perhaps about up down out off away back together slowly quickly quietly carefully
    one two three four five six seven eight nine ten be do did can could would should will may must how
    what does i you me him them us my your"""
)

CAPITALISED = _words(
    """The A An In On At It They We He She This That There When After Before Some Every What Where How Who
    Which Many Most No All Each One Two Three Then Later Near Behind Under Nobody Everyone Our Their His
    Her Its Yes Not Repeat Transcribe List Page Table Report If As But And For From With"""
)

COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple", "brown", "grey")

WORDS = tuple(
    dict.fromkeys(ADJECTIVES + NOUNS + VERBS + TRANSITIVE_VERBS + PREPOSITIONS + FUNCTION_WORDS + CAPITALISED + COLOURS)
)
