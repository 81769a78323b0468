"""Whether videos may be mirrored, by the names of their classes."""

import pytest

from lofi_tal.annotations import judge_mirroring

SIDED = {
    "english": ("swipe_left SwipeLeft turnleft counterclockwise LEFTHOOK left2 2right turnRight90 moveLEFTward "
                "throwright arrowright CCW-spin clock-wise anti_clock_wise turn_L L1 rightHand lefty rgt ＬＥＦＴ"),
    "german": "nach_links linksabbiegen Rechtskurve linke-Hand rechterArm imUhrzeigersinn GegenDenUhrzeigersinn",
    "french": "tourner_à_gauche TOURNERADROITE bras-droit sens_horaire antihoraire",
    "spanish": "girar_izquierda manoDerecha giro-antihorario girar_izq",
    "italian": "gira_a_destra svoltaSinistra mano-destra braccio_destro senso_antiorario mano_sx",
    "portuguese": "virar_à_esquerda mãoDireita sentido-anti-horário",
    "chinese": "左转 向右看 顺时针旋转 逆時針 左手",
    "japanese": "左に曲がる みぎて ヒダリ 反時計回り レフトフック",
    "korean": "왼손 오른쪽으로돌기 우회전 좌측 반시계방향",
    "others": "vänster_hand højre влево поворотНалево правая_рука w_prawo sağa_dön belok_kanan rẽ_trái ซ้าย يمين →",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for names in SIDED.values() for name in names.split()])
def test_a_name_that_speaks_of_sides_turns_the_flip_off_and_is_quoted(name):
    found = judge_mirroring(["walk", name])
    assert (found.safe, found.contradicted) == (False, True)
    assert repr(name) in found.reason


@pytest.mark.parametrize(
    "pair",
    [
        "larm up|rarm up",
        "SL|SR",
        "go east|go west",
        "main_g|main_d",
        "Hand li|Hand re",
        "向东走|向西走",
        "fuss <-|fuss ->",
    ],
)
def test_mirrored_pairs_are_told_from_names_alone(pair):
    names = pair.split("|")
    found = judge_mirroring(["walk", *names])
    assert (found.safe, found.contradicted) == (False, True)
    assert all(repr(name) in found.reason for name in names)
    assert judge_mirroring(["walk", names[0]]).contradicted is False


@pytest.mark.parametrize("name", ["3", "class_3", "A", "c07", "x", "მარცხნივ", "Action 12", "tl"])
def test_a_name_that_cannot_be_read_is_off_and_says_so(name):
    found = judge_mirroring(["walk", name])
    assert (found.safe, found.contradicted) == (False, False)
    assert found.reason.startswith("unsure")
    assert repr(name) in found.reason


def test_words_that_only_contain_the_letters_of_a_side_do_not_count():
    names = [
        "bright_light", "upright", "copyright", "eat leftovers", "straighten", "pedestrian", "destroy", "orchestra",
        "theft", "playwright", "BMX", "Rechteck malen", "Clean and jerk", "walk_2", "10m run", "type", "pet a cat",
        "跑步", "走る", "달리기", "우유 마시기", "laufen", "manger une pomme", "caminar", "бежать",
    ]  # fmt: skip
    assert judge_mirroring(names).safe, judge_mirroring(names).reason


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["Swiping Left", "Swiping Right", "No gesture"], "'Swiping Left', 'Swiping Right' speak"),  # Jester
        (["Turning Hand Counterclockwise", "Thumb Up"], "'Turning Hand Counterclockwise' speaks"),
        (["Pushing something from left to right", "Opening something"], "'Pushing something from left to right'"),
        (["ear_left", "ear_right", "paw_front_left"], "'ear_left', 'ear_right', 'paw_front_left' speak"),
        (["86", "87", "93"], "unsure: '86', '87', '93'"),  # Something-Something as numbers
        (["take", "put", "SideStepL", "SideStepR"], "'SideStepL', 'SideStepR' speak"),
    ],
)
def test_public_data_sets_and_tools(labels, words):
    found = judge_mirroring(labels)
    assert not found.safe
    assert words in found.reason


def test_no_class_is_quoted_twice_and_long_lists_are_counted():
    found = judge_mirroring([f"left_{place}" for place in ("arm", "arm", "leg", "hand", "foot")])
    assert found.reason.startswith("'left_arm', 'left_leg', 'left_hand' and 1 more speak of left or right")
