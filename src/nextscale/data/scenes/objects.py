"""The objects of scenes: their names and synonyms, and the emoji that shows each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STYLES = ("3d", "flat", "noto")
"""Styles of sprites: Fluent emoji in 3D and flat, and Noto emoji."""


@dataclass(frozen=True)
class Thing:
    """An object that scenes show."""

    name: str
    sprite: str
    """CLDR name of the emoji."""
    synonyms: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the name and its synonyms."""
        return (self.name, *self.synonyms)


def _things(table: str) -> dict[str, Thing]:
    """Read a table of lines ``sprite: name, synonym, ...``. A line without a colon is sprite and name."""
    things = {}
    for line in table.strip().splitlines():
        sprite, _, names = line.partition(": ")
        name, *synonyms = (names or sprite).split(", ")
        things[name] = Thing(name, sprite, tuple(synonyms))
    return things


OBJECTS: Mapping[str, Thing] = _things("""
dog face: dog, puppy
cat face: cat, kitten
rabbit face: rabbit, bunny
mouse face: mouse
fox
bear
panda
koala
tiger face: tiger
lion
cow face: cow
pig face: pig, piglet
frog
monkey face: monkey
horse: horse, pony
unicorn
elephant
giraffe
camel
kangaroo
hedgehog
penguin
owl
duck
baby chick: chick
parrot
flamingo
eagle
bat
turtle: turtle, tortoise
snake
crocodile
T-Rex: dinosaur
dragon
spouting whale: whale
dolphin
fish
shark
octopus
crab
snail
butterfly
honeybee: bee
lady beetle: ladybug, ladybird
spider
ewe: sheep
rose
sunflower
tulip
evergreen tree: pine tree, fir tree
deciduous tree: tree
palm tree: palm tree, palm
cactus
mushroom: mushroom, toadstool
red apple: apple
banana
lemon
grapes: bunch of grapes
watermelon: watermelon, slice of watermelon
pineapple
strawberry
carrot
tomato
eggplant: eggplant, aubergine
croissant
pretzel
hamburger: burger, hamburger
pizza: pizza
doughnut: donut, doughnut
cookie: cookie, biscuit
birthday cake: cake, birthday cake
cupcake
soft ice cream: ice cream, ice cream cone
lollipop
egg
teapot
hot beverage: cup of coffee, coffee cup
automobile: car, automobile
bus
taxi: taxi, cab
fire engine: fire truck, fire engine
tractor
delivery truck: truck, lorry
motorcycle: motorcycle, motorbike
bicycle: bicycle, bike
locomotive: train, steam train, locomotive
airplane: airplane, plane
helicopter
rocket
flying saucer: ufo, flying saucer
sailboat: sailboat, sailing boat
ship
house
castle
tent
sun
crescent moon
star
cloud
rainbow
snowman
umbrella
fire: fire, flame
jack-o-lantern: pumpkin, halloween pumpkin
balloon
wrapped gift: gift, present
trophy
soccer ball: soccer ball, football
basketball
guitar
drum
red heart: heart
crown
top hat: top hat, hat
key
bell
camera
television: television, tv
mobile phone: phone, mobile phone
closed book: book
hammer
pencil
candle
light bulb: light bulb
alarm clock: alarm clock, clock
chair
running shoe: shoe, sneaker
gem stone: diamond, gem
robot
ghost
kite
""")
"""Objects that occur alone, several times, and beside others."""

SINGLES: Mapping[str, Thing] = _things(
    """
wolf
raccoon
deer
camping: campsite
hippopotamus: hippopotamus, hippo
rhinoceros: rhinoceros, rhino
squid
lobster
scorpion
swan
peacock
rooster
goat
seal
jellyfish
ant
polar bear
maple leaf
four leaf clover: clover
potted plant: plant
hibiscus
pear
peach
tangerine
cherries: pair of cherries
kiwi fruit: kiwi
avocado
ear of corn: corn cob
hot pepper: chili pepper
broccoli: broccoli
bread: loaf of bread
cheese wedge: piece of cheese
hot dog
taco
french fries: box of fries
popcorn: box of popcorn
cooking: fried egg
pancakes: stack of pancakes
chocolate bar
candy
honey pot: pot of honey
wine glass: glass of wine, wine glass
glass of milk
police car
ambulance
racing car: race car, racing car
kick scooter: scooter
skateboard
anchor
canoe
ferris wheel
volcano
ringed planet: planet, saturn
globe showing Europe-Africa: globe
snowflake
high voltage: lightning bolt
magic wand
crystal ball
puzzle piece
teddy bear
artist palette: palette
violin
trumpet
saxophone
accordion
t-shirt
jeans: pair of jeans
dress
glasses: pair of glasses
sunglasses: pair of sunglasses
backpack
ring
megaphone
laptop
telephone
radio
locked: padlock, lock
axe
scissors: pair of scissors
paintbrush
envelope: envelope, letter
hourglass done: hourglass
magnet
bomb
dagger
shield
bow and arrow
telescope
microscope
money bag: bag of money
bed
bathtub
door
toothbrush
broom
bucket
basket
alien
skull
clown face: clown
"""
)
"""Objects that occur only alone. The others also occur several times and beside others."""

RESERVED: Mapping[str, Thing] = _things("zebra")
"""Objects that training scenes never show, so that one can be taught to a trained model. Readers know them."""
THINGS: Mapping[str, Thing] = {**OBJECTS, **SINGLES, **RESERVED}
